"""An XLM-R tokenizer of the real size, 250,002 ids, from invented pieces.

Pieces: those of the tiny tokenizer under tests/golden (so that its texts are
cut into more than single characters), every character of the common scripts,
and random words. The normaliser is the real nmt_nfkc map, taken from the tiny
model. Written as sentencepiece.bpe.model and as tokenizer.json.
"""

import json
import random
import shutil
import struct
from pathlib import Path

TINY = Path(__file__).resolve().parents[2] / "tests" / "golden" / "tokenizer"
SIZE = 250_000  # pieces of the sentencepiece model, <unk>, <s> and </s> among them
RANGES = [
    (0x21, 0x7E), (0xA1, 0x17F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x621, 0x64A), (0x905, 0x939),
    (0xE01, 0xE3A), (0x1EA0, 0x1EF9), (0x2010, 0x2027), (0x3001, 0x30FF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3),
    (0xFF01, 0xFF5E), (0x1F300, 0x1F6FF),
]  # fmt: skip
ALPHABETS = [
    ["bcdfghklmnprstvz", "aeiou"], ["бвгдзклмнпрст", "аеиоуы"], ["αεηιο", "κλμνπρστ"],
    ["的一是不了人我在有他这中大来上国", "个到说们为子和你地出道也时年得就"],
    ["かきくけこさしすせそたちつてと", "んいうりるれ"],
]  # fmt: skip


def random_word(rng):
    """A pronounceable word, often with the mark of a word's beginning."""
    alphabet = rng.choice(ALPHABETS)
    word = "".join(rng.choice(alphabet[i % 2]) for i in range(rng.randint(2, 7)))
    return ("▁" if rng.random() < 0.6 else "") + word


def tiny_pieces():
    """Ordinary pieces of the tiny tokenizer with their scores."""
    vocab = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return {piece: score for piece, score in vocab if not (piece.startswith("<") and piece.endswith(">"))}


def pieces(seed):
    """The ordinary pieces in the order of their ids, best score first as in a real model."""
    rng = random.Random(seed)
    found = tiny_pieces()
    for low, high in RANGES:
        for code in range(low, high + 1):
            found.setdefault(chr(code), rng.uniform(-16, -11))
    while len(found) < SIZE - 3:
        found.setdefault(random_word(rng), rng.uniform(-14, -8))
    return sorted(found.items(), key=lambda item: -item[1])


def varint(number):
    """Protocol buffers' variable-length integer."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out) + bytes([number])


def piece_message(piece, score, kind):
    """Field 1 of a sentencepiece model: text, score and type of one piece."""
    text = piece.encode()
    body = b"\x0a" + varint(len(text)) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind)
    return b"\x0a" + varint(len(body)) + body


def read_varint(data, at):
    """A variable-length integer and the place after it."""
    number = shift = 0
    while True:
        number |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return number, at


def other_fields(data):
    """All of a sentencepiece model but its pieces: trainer and normaliser settings."""
    at, kept = 0, b""
    while at < len(data):
        start = at
        tag, at = read_varint(data, at)
        length, at = read_varint(data, at)  # every top-level field is a message
        at += length
        kept += data[start:at] if tag >> 3 != 1 else b""
    return kept


def write_sentencepiece(folder, vocab):
    """sentencepiece.bpe.model: control pieces first, then the vocabulary."""
    unknown, control, normal = 2, 3, 1
    head = piece_message("<unk>", 0, unknown) + piece_message("<s>", 0, control) + piece_message("</s>", 0, control)
    body = b"".join(piece_message(piece, score, normal) for piece, score in vocab)
    tail = other_fields((TINY / "sentencepiece.bpe.model").read_bytes())
    (folder / "sentencepiece.bpe.model").write_bytes(head + body + tail)


def write_tokenizer_json(folder, vocab):
    """tokenizer.json: fairseq's four ids, the vocabulary, `<mask>` last."""
    value = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8"))
    special = [[token, 0.0] for token in ("<s>", "<pad>", "</s>", "<unk>")]
    # Scores as the model file holds them, in single precision.
    ordinary = [[piece, struct.unpack("<f", struct.pack("<f", score))[0]] for piece, score in vocab]
    value["model"]["vocab"] = [*special, *ordinary, ["<mask>", 0.0]]
    for token in value["added_tokens"]:
        if token["content"] == "<mask>":
            token["id"] = SIZE + 1
    (folder / "tokenizer.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_tokenizer(folder, seed):
    """Every tokenizer file of a model folder."""
    vocab = pieces(seed)
    write_sentencepiece(folder, vocab)
    write_tokenizer_json(folder, vocab)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(TINY / name, folder / name)
