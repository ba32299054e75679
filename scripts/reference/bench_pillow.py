"""How fast Pillow prepares JPEG pictures, and how fast we do, for docs/benchmarks.md.

    bench_pillow.py make build/bench_pictures
    bench_pillow.py many build/bench_1000 [--count 1000]
    bench_pillow.py time [--ours target/release/examples/stage_times] [--rounds 7] PICTURE...

`make` writes the pictures: 640 x 480, smooth noise with detail, always the same. `many` writes different
ones, the kinds in turn, a hundred in a folder, for `altclip bench --images`. `time` prints a JSON
line for each picture, medians in milliseconds on one thread: `lean` is Pillow and numpy alone,
`processor` transformers' CLIPImageProcessorPil after Pillow's decoding. With `--ours` the Rust example
runs between the rounds, so that both sides see the same machine. Run it on an idle machine.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import time

import numpy as np
import PIL
from PIL import Image

MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
SIZE = 224
# Name, quality, chroma subsampling in Pillow's numbers, progressive.
KINDS = [
    ("q90_420", 90, 2, False),
    ("q75_420", 75, 2, False),
    ("q90_444", 90, 0, False),
    ("q75_444", 75, 0, False),
    ("q90_420_progressive", 90, 2, True),
]
RUNS = 20


def photo(width=640, height=480, seed=2026):
    """A picture with the spectrum of a photograph: noise at eight scales, edges and a flat part."""
    random = np.random.default_rng(seed)
    values = np.zeros((height, width, 3))
    for octave in range(8):
        cells = 3 << octave
        noise = random.normal(size=(cells * 3 // 4 + 1, cells + 1, 3))
        noise = noise.mean(axis=2, keepdims=True) * 1.2 + noise * 0.35
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel].astype(np.float32))
            values[..., channel] += np.asarray(layer.resize((width, height), Image.BICUBIC)) * 46 * 0.62**octave
    y, x = np.mgrid[0:height, 0:width]
    values[(x - 420) ** 2 + (y - 250) ** 2 < 120**2] += 50
    values[(y > 60) & (y < 130)] *= 0.15
    return Image.fromarray(np.clip(values + 118, 0, 255).astype(np.uint8))


def make(folder):
    """Write the pictures of KINDS."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = photo()
    for name, quality, subsampling, progressive in KINDS:
        path = folder / f"{name}.jpg"
        picture.save(path, quality=quality, subsampling=subsampling, progressive=progressive)
        print(path, path.stat().st_size, "bytes")


def many(folder, count):
    """Write that many different pictures."""
    for number in range(count):
        name, quality, subsampling, progressive = KINDS[number % len(KINDS)]
        path = folder / f"{number // 100:02}" / f"{number:05}_{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(seed=number).save(path, quality=quality, subsampling=subsampling, progressive=progressive)


def decode(data):
    """The bytes of a file as an RGB picture."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def prepare(picture):
    """Resize, crop and normalise with no more than it takes."""
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    long = int(SIZE * long / short)
    width, height = (SIZE, long) if width <= height else (long, SIZE)
    picture = picture.resize((width, height), Image.BICUBIC)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    values = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))
    values = (values * np.float32(1 / 255) - MEAN) / STD
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def processor():
    """The image processor of transformers as a function of a picture."""
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    clip = CLIPImageProcessorPil()
    return lambda picture: clip(picture, return_tensors="np")["pixel_values"]


def median_ms(work):
    """Median time of some runs, after one that is not counted."""
    work()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def ours(program, paths):
    """What the Rust example prints: for each path its stages."""
    printed = subprocess.run([program, *paths], check=True, capture_output=True, text=True).stdout
    rows = {}
    for line in printed.splitlines():
        path, _, *stages = line.split("\t")
        rows[path] = {"ours_" + stage.split()[0]: float(stage.split()[1]) for stage in stages}
    return rows


def peers(data, clip):
    """The times of the other side for one file."""
    return {
        "pillow_decode": median_ms(lambda: decode(data)),
        "lean_total": median_ms(lambda: prepare(decode(data))),
        "processor_total": median_ms(lambda: clip(decode(data))),
    }


def measure(args):
    """All rounds; a line for each picture."""
    clip = processor()
    found = {path: {} for path in args.pictures}
    for _ in range(args.rounds):
        rust = ours(args.ours, args.pictures) if args.ours else {}
        for path in args.pictures:
            row = peers(pathlib.Path(path).read_bytes(), clip)
            for name, value in (row | rust.get(path, {})).items():
                found[path].setdefault(name, []).append(value)
    for path, times in found.items():
        row = {name: round(statistics.median(values), 2) for name, values in times.items()}
        if "ours_total" in row:
            row["lean_by_ours"] = round(row["lean_total"] / row["ours_total"], 2)
            row["processor_by_ours"] = round(row["processor_total"] / row["ours_total"], 2)
        print(json.dumps({"picture": pathlib.Path(path).name, "pillow": PIL.__version__} | row), flush=True)


def main():
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("make").add_argument("folder", type=pathlib.Path)
    more = commands.add_parser("many")
    more.add_argument("folder", type=pathlib.Path)
    more.add_argument("--count", type=int, default=1000)
    timing = commands.add_parser("time")
    timing.add_argument("--ours")
    timing.add_argument("--rounds", type=int, default=7)
    timing.add_argument("pictures", nargs="+")
    args = parser.parse_args()
    if args.command == "make":
        make(args.folder)
    elif args.command == "many":
        many(args.folder, args.count)
    else:
        measure(args)


if __name__ == "__main__":
    main()
