"""Small pictures, drawn by formula, that make the preprocessing visible.

Odd sizes, one tall and narrow, one smaller than the model's input, and the
pixel layouts RGB, RGBA, grey and palette, so that colour conversion, resize
and crop each have something to get wrong.
"""

import numpy as np
from PIL import Image


def _grid(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return x / width, y / height


def _rgb(*channels):
    stacked = np.stack(channels, axis=-1)
    return np.clip(np.rint(stacked * 255), 0, 255).astype(np.uint8)


def rings():
    """RGB, 61 x 47: coloured rings off the centre."""
    x, y = _grid(61, 47)
    radius = np.hypot(x - 0.35, y - 0.6)
    return Image.fromarray(_rgb(0.5 + 0.5 * np.cos(28 * radius), radius, 1 - x))


def tower():
    """RGBA, 33 x 150, tall and narrow: stripes under a varying alpha."""
    x, y = _grid(33, 150)
    colour = _rgb(y, 0.5 + 0.5 * np.sin(40 * y), x * y)
    alpha = _rgb(1 - y)
    return Image.fromarray(np.concatenate([colour, alpha], axis=-1))


def checks():
    """Grey, 20 x 23, smaller than the input: a slanted chess board."""
    x, y = _grid(20, 23)
    return Image.fromarray(_rgb(((x * 5 + y).astype(int) + (y * 5).astype(int)) % 2 * (0.3 + 0.7 * y))[..., 0])


def sunset():
    """Palette, 90 x 41: bands of sixteen colours and a disc."""
    x, y = _grid(90, 41)
    disc = np.hypot((x - 0.7) * 90 / 41, y - 0.5) < 0.3
    image = Image.fromarray(_rgb(1 - 0.6 * y, 0.2 + 0.5 * disc, 0.3 * y))
    return image.quantize(colors=16, dither=Image.Dither.NONE)


PICTURES = {"checks": checks, "rings": rings, "sunset": sunset, "tower": tower}
