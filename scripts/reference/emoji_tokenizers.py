"""Compares the emoji set's tokenizers as `emoji-set ids` reads them with transformers, on every text of the set.

    python scripts/reference/emoji_tokenizers.py [FOLDER]     (default: build/emoji, made by `just emoji-set`)

transformers 5.23.0, tokenizers 0.23.3.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer, XLMRobertaTokenizer


def texts_of(root, student):
    """The texts of the set and the names that training does not have."""
    languages = sorted(p.name for p in (root / "set").glob("texts.*.txt"))
    names = languages if student else ["texts.en.txt"]
    texts = {line for name in names for line in (root / "set" / name).read_text(encoding="utf-8").splitlines()}
    if student:
        for line in (root / "set/concepts.jsonl").read_text(encoding="utf-8").splitlines():
            texts.update(json.loads(line)["names"].values())
    return sorted(texts)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "build/emoji")
    failed = False
    for name, kind in [("teacher", CLIPTokenizer), ("student", XLMRobertaTokenizer)]:
        folder = root / "tokenizers" / name
        texts = texts_of(root, student=name == "student")
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.write("".join(text + "\n" for text in texts))
            file.flush()
            command = ["cargo", "run", "--release", "--quiet", "-p", "altclip-recipe-emoji", "--", "ids", str(folder), file.name]
            ours = [json.loads(line) for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]
        tokenizer = kind.from_pretrained(folder)
        theirs = [tokenizer(text)["input_ids"] for text in texts]
        unknown = sum(tokenizer.unk_token_id in ids[1:-1] for ids in theirs)
        different = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]
        mean = sum(map(len, theirs)) / len(theirs)
        print(f"{name}: {len(tokenizer)} tokens, {len(texts)} texts, {len(different)} differ, {unknown} with an unknown token, {mean:.1f} tokens a text, longest {max(map(len, theirs))}")
        failed |= bool(different)
    sys.exit(failed)


if __name__ == "__main__":
    main()
