"""How fast PyTorch runs the two towers in f32, for docs/benchmarks.md.

    bench_torch.py [--threads 2] [--runs 5] [--only vision|text] [--quick]

A JSON line for each tower and batch size: the median time of one picture
through ViT-L/14, or of one text of 16 tokens through XLM-R large, with the
head. The weights are random and no file is read. Run it on an idle machine.
"""

import argparse
import json
import statistics
import time

import torch
import transformers
from transformers.models.altclip.modeling_altclip import AltCLIPTextModel, AltCLIPVisionModel

from full_size import configuration

TOKENS = 16


def vision(config):
    """The picture tower, and its input for a batch."""
    model = AltCLIPVisionModel(config.vision_config).eval()
    size = config.vision_config.image_size
    return model, lambda batch: {"pixel_values": torch.randn(batch, 3, size, size)}


def text(config):
    """The text tower, and its input for a batch."""
    model = AltCLIPTextModel(config.text_config).eval()
    return model, lambda batch: {"input_ids": torch.randint(4, 250_000, (batch, TOKENS))}


def seconds(model, inputs, runs):
    """Median time of a forward pass, after one that is not counted."""
    model(**inputs)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        model(**inputs)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def parse():
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["vision", "text"])
    parser.add_argument("--arch", choices=["altclip", "altclip-m18"], default="altclip")
    parser.add_argument("--quick", action="store_true", help="two layers, one run: only shows that it works")
    return parser.parse_args()


def shortened(config):
    """The same widths with two layers each."""
    config.text_config.num_hidden_layers = config.vision_config.num_hidden_layers = 2
    return config


def main():
    """Measure what was asked for."""
    args = parse()
    transformers.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    torch.set_num_threads(args.threads)
    config = configuration(args.arch)
    config = shortened(config) if args.quick else config
    for name, tower in {"vision": vision, "text": text}.items():
        if args.only not in (None, name):
            continue
        model, inputs = tower(config)
        for batch in (1, 8):
            found = seconds(model, inputs(batch), 1 if args.quick else args.runs)
            row = {"tower": name, "arch": args.arch, "batch": batch, "threads": args.threads, "dtype": "float32"}
            row |= {"layers": model.config.num_hidden_layers, "attention": model.config._attn_implementation}
            row |= {"tokens": TOKENS} if name == "text" else {}
            row |= {"ms_per_item": round(found / batch * 1000, 2), "torch": torch.__version__.split("+")[0]}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
