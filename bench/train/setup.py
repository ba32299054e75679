"""What both engines train on: shapes, a tokenizer, texts of real lengths, pictures.

Random weights, but real shapes: a student of XLM-R base (12 × 768, 250,002 ids), a teacher of CLIP ViT-B/32.
"""

import gzip
import json
import random
import re
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
sys.path.insert(0, str(ROOT / "scripts" / "reference"))
BATCH = 32
# Batches of an epoch.
BATCHES = 10
PICTURES = 64
VOCABULARY = 250_002

STUDENT = {
    "model_type": "xlm-roberta", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "vocab_size": VOCABULARY, "max_position_embeddings": 514, "type_vocab_size": 1,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "hidden_act": "quick_gelu", "patch_size": 32, "image_size": 224, "projection_dim": 512,
}  # fmt: skip
TEACHER_TEXT = {
    "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
    "hidden_act": "quick_gelu", "vocab_size": 49_408, "max_position_embeddings": 77, "projection_dim": 512,
    "bos_token_id": 796, "eos_token_id": 797,
}  # fmt: skip


def captions(texts, language):
    """The first lines of Multi30k, as many as an epoch has."""
    with gzip.open(texts / f"multi30k_train.{language}.gz", "rt", encoding="utf-8") as lines:
        return [line.strip() for line, _ in zip(lines, range(BATCH * BATCHES))]


def tokenizer(folder, texts):
    """The invented vocabulary of XLM-R's size with the words of the texts in it, so that lengths are real."""
    from synthetic_tokenizer import write_tokenizer

    write_tokenizer(folder, 0)
    (folder / "sentencepiece.bpe.model").unlink(missing_ok=True)
    path = folder / "tokenizer.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    vocab = found["model"]["vocab"]
    known = {piece for piece, _ in vocab}
    words = Counter(word for text in texts for word in re.findall(r"\w+", text))
    # A rare word of a real text is two or three pieces.
    new = [f"▁{word}" for word, count in words.most_common() if count > 1 and f"▁{word}" not in known]
    for place, piece in zip(range(len(vocab) - 2, 0, -1), new):
        vocab[place] = [piece, -9.0]
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")


def png(path, rng):
    """A picture of 224 × 224 in smooth colours."""
    a, b, c = (rng.randrange(1, 6) for _ in range(3))
    rows = b"".join(
        b"\0" + bytes(v & 255 for x in range(224) for v in (a * x + y, b * y + x, c * (x ^ y))) for y in range(224)
    )

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 224, 224, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def make(work, texts):
    """Everything in the folder `work`, unless it is there."""
    if (work / "ready").exists():
        return
    english, german = captions(texts, "en"), captions(texts, "de")
    for name in ("student", "clip", "pictures"):
        (work / name).mkdir(parents=True, exist_ok=True)
    tokenizer(work / "student", german)
    (work / "student" / "config.json").write_text(json.dumps(STUDENT))
    clip = {"model_type": "clip", "projection_dim": 512, "text_config": TEACHER_TEXT, "vision_config": VISION}
    (work / "clip" / "config.json").write_text(json.dumps(clip))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (work / "clip" / file).write_bytes((GOLDEN / "tokenizer_clip" / file).read_bytes())
    processor = json.loads((GOLDEN / "clip" / "preprocessor_config.json").read_text())
    processor |= {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}
    (work / "clip" / "preprocessor_config.json").write_text(json.dumps(processor))
    (work / "pairs.tsv").write_text("".join(f"{e}\t{g}\n" for e, g in zip(english, german)), encoding="utf-8")
    rng = random.Random(0)
    for n in range(PICTURES):
        png(work / "pictures" / f"{n}.png", rng)
    lines = [{"image": f"{n % PICTURES}.png", "text": text} for n, text in enumerate(german)]
    (work / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (work / "ready").touch()
