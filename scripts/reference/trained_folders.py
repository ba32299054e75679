"""What `altclip train` leaves, loaded by transformers: its features must be ours.

    trained_folders.py ALTCLIP [DIR]

Trains each kind for a few steps on tiny models and pictures (in DIR, or a folder that is removed), loads
the folder with transformers, and compares features of pictures and texts with `altclip embed`. Ends with 1
when a number differs by more than 1e-5 of the largest (or of 1).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from transformers import AltCLIPModel, AutoTokenizer, CLIPImageProcessorPil, CLIPModel

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
TEXTS = ["a red square", "一个红色的方块", "a blue circle on grey", "!"]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (250, 250, 250)}


def copy(names, to):
    """Golden files into a new folder; a golden model has no tokenizer of its own."""
    to.mkdir(parents=True)
    for name in names:
        (to / Path(name).name).write_bytes((GOLDEN / name).read_bytes())
    return to


def model(name, tokenizer, root):
    """A golden model with its tokenizer."""
    kept = [f"{name}/{file.name}" for file in (GOLDEN / name).glob("*") if file.name.startswith(("model", "config.j", "prep"))]
    return copy([*(n for n in kept if "_old" not in n), f"{tokenizer}/tokenizer.json", f"{tokenizer}/tokenizer_config.json"], root / name)


def data(root):
    """Pictures in a folder a colour, captions in two languages, pairs of texts."""
    captions, pairs = [], []
    for colour, rgb in COLOURS.items():
        for shape in ("rectangle", "ellipse", "line"):
            image = Image.new("RGB", (40, 40), (120, 120, 120))
            getattr(ImageDraw.Draw(image), shape)((8, 8, 32, 32), fill=rgb)
            path = root / "pictures" / colour / f"{shape}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            captions.append({"image": f"{colour}/{shape}.png", "text": f"a {colour} {shape}"})
            pairs.append(f"a {colour} {shape}\t{colour} 的 {shape}")
    (root / "captions.jsonl").write_text("".join(json.dumps(c) + "\n" for c in captions))
    (root / "pairs.tsv").write_text("".join(p + "\n" for p in pairs))


def runs(root):
    """Kind and flags of every run, by name."""
    clip, alt_h = model("clip", "tokenizer_clip", root), model("alt_h", "tokenizer", root)
    alt_l = model("alt_l", "tokenizer", root)
    random = copy(["tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"], root / "random")
    config = json.loads((GOLDEN / "alt_l" / "config.json").read_text())["text_config"]
    config.pop("project_dim")
    (random / "config.json").write_text(json.dumps(config | {"model_type": "xlm-roberta"}))
    texts = ["--teacher", clip, "--pairs", root / "pairs.tsv"]
    pictures = ["--pairs", root / "captions.jsonl", "--images", root / "pictures"]
    labelled = ["--model", alt_l, "--data", root / "pictures"]
    return {
        "distill": ["distill", *texts, "--student", alt_h],
        "distill-random": ["distill", *texts, "--student", random],
        "distill-bf16": ["distill", *texts, "--student", alt_h, "--precision", "bf16", "--save-bf16"],
        "contrastive": ["contrastive", "--model", alt_l, *pictures],
        "clip": ["clip", "--config", clip / "config.json", *pictures],
        "finetune": ["finetune", *labelled],
        "finetune-lora": ["finetune", *labelled, "--lora-rank", "2"],
        "finetune-mixed": ["finetune", *labelled, "--wise-ft", "0.5"],
    }


def theirs(folder, pictures):
    """Features of transformers, not normalised."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    cls = {"altclip": AltCLIPModel, "clip": CLIPModel}[kind]
    net, info = cls.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    faults = {key: found for key, found in info.items() if found and "position_ids" not in str(found)}
    assert not faults, faults
    net.eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(folder), CLIPImageProcessorPil.from_pretrained(folder)
    def pooled(found):
        return found if torch.is_tensor(found) else found.pooler_output

    rows = []
    with torch.no_grad():
        for path in pictures:
            pixels = processor(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"]
            rows.append(pooled(net.get_image_features(pixel_values=pixels))[0])
        for text in TEXTS:
            ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=77)
            ids = {key: ids[key] for key in ("input_ids", "attention_mask")}
            rows.append(pooled(net.get_text_features(**ids))[0])
    return torch.stack(rows)


def ours(altclip, folder, pictures):
    """The same by `altclip embed`."""
    items = [f for p in pictures for f in ("--image", p)] + [f for t in TEXTS for f in ("--text", t)]
    command = [altclip, "embed", "--model", folder, *items, "--no-normalize", "--precision", "f32", "--json"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return torch.tensor([json.loads(line)["embedding"] for line in lines])


def main(altclip, root):
    data(root)
    pictures = sorted((root / "pictures").glob("*/*.png"))[:5]
    worst = 0.0
    for name, flags in runs(root).items():
        out = root / f"out-{name}"
        usual = ["--out", out, "--batch-size", "4", "--max-steps", "6", "--lr", "1e-3", "--quiet", "--json"]
        subprocess.run([altclip, "train", *flags, *usual], check=True, capture_output=True)
        reference = theirs(out, pictures)
        difference = (ours(altclip, out, pictures) - reference).abs().max().item()
        scale = max(1.0, reference.abs().max().item())
        worst = max(worst, difference / scale)
        print(f"{name:16} features differ by at most {difference:.1e} (largest {scale:.2f})")
    return 0 if worst <= 1e-5 else 1


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(main(sys.argv[1], Path(sys.argv[2])))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(sys.argv[1], Path(folder)))
