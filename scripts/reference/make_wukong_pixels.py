"""Makes tests/golden/image/wukong.json: pixel values in the order of Wukong's authors, who normalise first.

    .venv/bin/python scripts/reference/make_wukong_pixels.py

Their code resizes by OpenCV's INTER_CUBIC, which PyTorch's bicubic without antialiasing is too: a = -0.75, half
pixel centres, the border repeated. Every 11th value is kept. The picture is that of make_image_goldens.py.
"""

import json
import pathlib

import numpy as np
import torch
from make_image_goldens import synthetic

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/image/wukong.json"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]) * 255
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]) * 255
SIZES = [(37, 23), (23, 37), (24, 24), (9, 7), (131, 97), (40, 100), (61, 40), (3, 50)]
SIDE = 24


def prepared(width, height):
    """Normalised, resized, cropped."""
    picture = torch.from_numpy(synthetic(width, height)).float()
    picture = ((picture - MEAN) / STD).permute(2, 0, 1)[None]
    # The long side is rounded, half away from zero, in single precision.
    long = int(np.floor(np.float32(max(width, height)) / np.float32(min(width, height)) * np.float32(SIDE) + np.float32(0.5)))
    columns, rows = (SIDE, long) if width <= height else (long, SIDE)
    picture = torch.nn.functional.interpolate(picture, (rows, columns), mode="bicubic", align_corners=False, antialias=False)
    left, top = (columns - SIDE) // 2, (rows - SIDE) // 2
    return picture[0, :, top : top + SIDE, left : left + SIDE]


def main():
    rows = []
    for width, height in SIZES:
        values = prepared(width, height).flatten()[::11]
        shown = "[" + ", ".join(f"{value:.7g}" for value in values.tolist()) + "]"
        rows.append(f'{{"width": {width}, "height": {height}, "values": {shown}}}')
    head = json.dumps({"torch": torch.__version__, "numpy": np.__version__})
    OUT.write_text(
        '{"made_by": "scripts/reference/make_wukong_pixels.py", "versions": ' + head
        + f', "side": {SIDE}, "step": 11, "pictures": [\n' + ",\n".join(rows) + "\n]}\n"
    )
    print(OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
