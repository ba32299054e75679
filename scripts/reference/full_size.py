"""The real shape with random weights: make it, classify with transformers, compare.

    full_size.py make DIR [--arch altclip|altclip-m18] [--format safetensors|bin] [--seed N]
    full_size.py classify DIR --label TEXT --label TEXT IMAGE_OR_FOLDER...  > reference.jsonl
    full_size.py compare reference.jsonl ours.jsonl

`classify` prints what `altclip classify --json` prints; `compare` ends with 1
when a probability differs by more than 1e-4.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from PIL import Image
from transformers import AltCLIPConfig, AltCLIPModel, AutoTokenizer, CLIPImageProcessorPil

from synthetic_tokenizer import write_tokenizer

TOLERANCE = 1e-4
CONTEXT = 77
VISION_L = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "hidden_act": "quick_gelu", "patch_size": 14, "image_size": 224, "projection_dim": 768,
}  # fmt: skip
VISION_H = {
    "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
    "hidden_act": "gelu", "patch_size": 14, "image_size": 224, "projection_dim": 1024,
}  # fmt: skip


def configuration(arch):
    """The published shapes: 864,186,113 parameters, m18 1,193,017,857 before its extra linear."""
    width, vision = (1024, VISION_H) if arch == "altclip-m18" else (768, VISION_L)
    config = AltCLIPConfig(text_config={"project_dim": width}, vision_config=vision, projection_dim=width)
    config.architectures, config.dtype = ["AltCLIPModel"], "float32"
    return config


def shapes(config, arch):
    """Published name → shape of every tensor."""
    with torch.device("meta"):
        model = AltCLIPModel(config)
    found = {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = {name.replace("roberta.encoder.layers.", "roberta.encoder.layer."): s for name, s in found.items()}
    if arch == "altclip-m18":
        width = config.text_config.hidden_size
        found |= {
            "text_model.transformation_pre.weight": (width, width),
            "text_model.transformation_pre.bias": (width,),
        }
    return found


def scale(name, shape):
    """Standard deviation of a tensor: signals keep their size through the depth."""
    if len(shape) == 1:
        return 0.1
    if "embedding" in name and "patch" not in name:
        return 0.3 if "position" in name or "token_type" in name else 1.0
    fan_in = torch.Size(shape[1:]).numel()
    return (2.0 if any(part in name for part in ("query", "key", "q_proj", "k_proj")) else 1.0) * fan_in**-0.5


def tensor(name, shape, seed):
    """One tensor's values, the same whatever is made before it."""
    if name == "logit_scale":
        return torch.tensor(4.6052)
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(shape, generator=generator).mul_(scale(name, shape))
    return value.add_(1) if len(shape) == 1 and name.endswith("weight") else value


def tensors(found, seed):
    """Name and values, one tensor at a time."""
    for index, name in enumerate(sorted(found)):
        yield name, tensor(name, found[name], seed * 100_000 + index)


def write_safetensors(path, found, seed):
    """Stream the tensors to one file: header first, then the data."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(found):
        start, end = end, end + 4 * torch.Size(found[name]).numel()
        header[name] = {"dtype": "F32", "shape": list(found[name]), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust((len(text) + 7) // 8 * 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _name, value in tensors(found, seed):
            file.write(value.numpy().tobytes())


def make(args):
    """Write the weights, the configurations and a tokenizer of the real size."""
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder, args.seed)
    config = configuration(args.arch)
    config.save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    if args.tokenizer_only:
        return 0
    found = shapes(config, args.arch)
    if args.format == "bin":
        torch.save(dict(tensors(found, args.seed)), folder / "pytorch_model.bin")
    else:
        write_safetensors(folder / "model.safetensors", found, args.seed)
    total = sum(torch.Size(shape).numel() for shape in found.values())
    print(f"{folder}: {len(found)} tensors, {total:,} parameters", file=sys.stderr)
    return 0


def picture_paths(names):
    """Files as given; a folder gives every file in it, sorted."""
    for name in names:
        path = Path(name)
        yield from sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def text_embeds(model, folder, labels):
    """Normalised features of the labels."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(labels, padding=True, truncation=True, max_length=CONTEXT, return_tensors="pt")
    features = model.get_text_features(batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
    return features / features.norm(dim=-1, keepdim=True)


def classify_one(model, processor, texts, path):
    """Logits and probabilities of one picture over all labels."""
    with Image.open(path) as image:
        # Our command line drops transparency, as Pillow does; the processor alone would put it on white.
        pixel_values = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
    features = model.get_image_features(pixel_values).pooler_output
    embeds = features / features.norm(dim=-1, keepdim=True)
    logits = (texts @ embeds[0]) * model.logit_scale.exp()
    return logits, logits.softmax(dim=-1)


def classify(args):
    """Print a JSON line for each picture, as our command line does."""
    model = AltCLIPModel.from_pretrained(args.folder, dtype=torch.float32).eval()
    processor = CLIPImageProcessorPil.from_pretrained(args.folder)
    texts = text_embeds(model, args.folder, args.label)
    for path in picture_paths(args.images):
        try:
            logits, probabilities = classify_one(model, processor, texts, path)
        except (OSError, ValueError) as error:
            row = {"input": str(path), "error": {"code": "unreadable", "message": str(error)}}
        else:
            columns = zip(args.label, logits.tolist(), probabilities.tolist())
            labels = [{"label": a, "logit": b, "probability": c} for a, b, c in columns]
            row = {"input": str(path), "labels": labels}
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return 0


def rows(path):
    """Input → its row, from a file of JSON lines."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {row["input"]: row for row in map(json.loads, lines)}


def difference(one, other):
    """Largest difference of a row's probabilities; the labels must be the same."""
    names = [[label["label"] for label in row["labels"]] for row in (one, other)]
    if names[0] != names[1]:
        raise SystemExit(f"labels differ for {one['input']}: {names[0]} and {names[1]}")
    pairs = zip(one["labels"], other["labels"])
    return max(abs(a["probability"] - b["probability"]) for a, b in pairs)


def compare(args):
    """Print the largest difference and every input that only one side could read."""
    first, second = rows(args.first), rows(args.second)
    worst, count = ("nothing", 0.0), 0
    for name in sorted(first.keys() | second.keys()):
        sides = [name in side and "labels" in side[name] for side in (first, second)]
        if all(sides):
            found = difference(first[name], second[name])
            worst, count = max(worst, (name, found), key=lambda pair: pair[1]), count + 1
        elif any(sides):
            print(f"only in {args.first if sides[0] else args.second}: {name}")
    print(f"{count} pictures, largest difference of a probability {worst[1]:.3e} ({worst[0]})")
    return 0 if count and worst[1] <= TOLERANCE else 1


def parse():
    """The three commands and their arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("make", help=make.__doc__)
    sub.set_defaults(run=make)
    sub.add_argument("folder")
    sub.add_argument("--arch", choices=["altclip", "altclip-m18"], default="altclip")
    sub.add_argument("--format", choices=["safetensors", "bin"], default="safetensors")
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--tokenizer-only", action="store_true", help="no weights")
    sub = commands.add_parser("classify", help=classify.__doc__)
    sub.set_defaults(run=classify)
    sub.add_argument("folder")
    sub.add_argument("images", nargs="+", metavar="IMAGE")
    sub.add_argument("--label", "--labels", action="append", required=True, metavar="TEXT", help="may be repeated")
    sub = commands.add_parser("compare", help=compare.__doc__)
    sub.set_defaults(run=compare)
    sub.add_argument("first")
    sub.add_argument("second")
    return parser.parse_args()


def main():
    """Run one command."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_grad_enabled(False)
    args = parse()
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
