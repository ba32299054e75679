"""Makes tests/golden/image/pictures.json: encoded pictures with the RGB that Pillow reads from them,
and the pixel values that the CLIP image processor of transformers makes of synthetic pictures.

    python -m venv venv && venv/bin/pip install pillow==13.0.0 numpy==2.4.6 transformers==5.23.0
    venv/bin/python scripts/reference/make_image_goldens.py

Checksums are FNV-1a over the bytes (RGB rows; little-endian float32), with the first values beside
them. The synthetic pictures are computed by the same few lines here and in the Rust test.
"""

import io
import json
import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.image_transforms import convert_to_rgb
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/image/pictures.json"
warnings.filterwarnings("ignore")


def fnv(data: bytes) -> str:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def synthetic(width: int, height: int, channels: int = 3) -> np.ndarray:
    """A gradient with noise: value = 5x + 3y + 50c + (0..31) mod 256."""
    state, out = 1, np.empty((height, width, channels), np.uint8)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                state = (state * 1664525 + 1013904223) % 2**32
                out[y, x, c] = (5 * x + 3 * y + 50 * c + (state >> 27)) % 256
    return out


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, depth, kind, interlaced, rows, before=b""):
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def adam7(pixels: np.ndarray) -> bytes:
    passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    rows = b""
    for x0, dx, y0, dy in passes:
        part = pixels[y0::dy, x0::dx]
        if part.size:
            rows += b"".join(b"\0" + row.tobytes() for row in part)
    return rows


def encoded():
    """Name and bytes of every encoded picture."""
    width, height = 21, 18
    colour = Image.fromarray(synthetic(width, height))
    grey = colour.convert("L")
    rgba = Image.fromarray(synthetic(width, height, 4), "RGBA")
    cmyk = Image.fromarray(synthetic(width, height, 4), "CMYK")
    wide = Image.fromarray(synthetic(width, height, 1)[..., 0].astype(np.uint16) * 3)
    # `quantize` gives palettes with fewer colours than the depth has room for.
    palette, small_palette, bits = colour.quantize(40), colour.quantize(5), colour.convert("1")

    def save(image, kind, **options):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    for name, subsampling in [("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0")]:
        for progressive in (False, True):
            suffix = "_progressive" if progressive else ""
            yield f"jpeg_{name}{suffix}", save(colour, "JPEG", quality=85, subsampling=subsampling, progressive=progressive)
    # Factors that Pillow cannot write: the same blocks in other units, the size cut to odd numbers.
    square = Image.fromarray(synthetic(32, 32))
    for name, subsampling, factors in [("440", "4:2:2", 0x12), ("411", "4:2:0", 0x41), ("4x1", "4:2:0", 0x14)]:
        data = bytearray(save(square, "JPEG", quality=85, subsampling=subsampling))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", 29, 31)
        data[at + 11] = factors
        yield f"jpeg_{name}", bytes(data)
    yield "jpeg_grey", save(grey, "JPEG")
    yield "jpeg_grey_progressive", save(grey, "JPEG", progressive=True)
    yield "jpeg_cmyk", save(cmyk, "JPEG")
    yield "jpeg_cmyk_progressive", save(cmyk, "JPEG", progressive=True)
    yield "jpeg_rgb", save(colour, "JPEG", keep_rgb=True)
    yield "jpeg_restart", save(colour, "JPEG", quality=100, restart_marker_blocks=1)
    yield "jpeg_restart_progressive", save(colour, "JPEG", restart_marker_blocks=2, progressive=True)
    yield "jpeg_coarse", save(colour, "JPEG", quality=1)
    # The Adobe segment of a CMYK picture says that the inks are YCbCr.
    yield "jpeg_ycck", save(cmyk, "JPEG").replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2")
    yield "jpeg_2x2", save(colour.crop((0, 0, 2, 2)), "JPEG", subsampling="4:2:0")
    yield "jpeg_trailing", save(colour, "JPEG") + b"PK\3\4trailing"

    for name, image in dict(rgb=colour, rgba=rgba, la=rgba.convert("LA"), grey=grey, grey16=wide, palette=palette, palette4=small_palette, bits=bits).items():
        yield f"png_{name}", save(image, "PNG")
    yield "png_palette_trns", save(palette, "PNG", transparency=bytes(range(40)))
    yield "png_grey_trns", save(grey, "PNG", transparency=grey.getpixel((0, 0)))
    yield "png_animated", save(colour, "PNG", save_all=True, append_images=[colour.rotate(180)])
    deep = (synthetic(width, height, 4).astype(np.uint32) * 199 % 65536).astype(">u2")
    for name, kind, channels in [("rgb16", 2, 3), ("la16", 4, 2), ("rgba16", 6, 4)]:
        rows = b"".join(b"\0" + row[:, :channels].tobytes() for row in deep)
        yield f"png_{name}", png(width, height, 16, kind, 0, rows)
    yield "png_interlaced", png(width, height, 8, 2, 1, adam7(np.asarray(colour)))
    yield "png_interlaced_1x3", png(1, 3, 8, 2, 1, adam7(np.asarray(colour)[:3, :1]))
    yield "png_index_outside", png(4, 1, 8, 3, 0, b"\0\0\1\2\x09", chunk(b"PLTE", bytes(range(10, 16))))
    for depth in (2, 4):
        row = bytes([0]) + bytes(range(7, 7 + -(-width * depth // 8)))
        yield f"png_grey{depth}", png(width, height, depth, 0, 0, row * height)

    for name, image in dict(palette=palette, grey=grey, bits=bits).items():
        yield f"gif_{name}", save(image, "GIF")
    yield "gif_interlaced", save(palette, "GIF", interlace=1)
    yield "gif_transparent", save(palette, "GIF", transparency=3)
    gif = bytearray(save(palette, "GIF", interlace=0))
    gif[6:10] = struct.pack("<HH", 30, 25)
    at = gif.index(b",\0\0\0\0", 13)
    gif[at + 1 : at + 5] = struct.pack("<HH", 4, 3)
    yield "gif_on_canvas", bytes(gif)

    yield "webp_lossy", save(colour, "WEBP", quality=60)
    yield "webp_lossy_alpha", save(rgba, "WEBP", quality=60)
    yield "webp_lossless", save(colour, "WEBP", lossless=True)
    yield "webp_lossless_alpha", save(rgba, "WEBP", lossless=True, exact=True)
    yield "webp_animated", save(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], duration=9)

    for name, image in dict(rgb=colour, rgba=rgba, palette=palette, grey=grey, bits=bits).items():
        yield f"bmp_{name}", save(image, "BMP")
    top_down = bytearray(save(colour, "BMP"))
    top_down[22:26] = struct.pack("<i", -height)
    yield "bmp_top_down", bytes(top_down)
    header = struct.pack("<IiiHHIIiiII", 40, 5, 2, 1, 8, 1, 0, 0, 0, 3, 0)
    colours = bytes([10, 20, 30, 0, 40, 50, 60, 0, 70, 80, 90, 0])
    body = bytes([3, 1, 2, 2, 0, 0, 0, 3, 2, 1, 0, 0, 2, 1, 0, 1])
    yield "bmp_rle8", b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 12) + header + colours + body
    header = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 16, 3, 0, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    yield "bmp_565", b"BM" + struct.pack("<IHHI", 0, 0, 0, 66) + header + bytes(range(1, 249, 16))

    for name, image in dict(rgb=colour, rgba=rgba, la=rgba.convert("LA"), palette=palette, small=small_palette, grey=grey, grey16=wide, bits=bits, cmyk=cmyk).items():
        yield f"tiff_{name}", save(image, "TIFF")
    yield "tiff_lzw", save(colour, "TIFF", compression="tiff_lzw")
    yield "tiff_deflate", save(colour, "TIFF", compression="tiff_adobe_deflate")
    yield "tiff_packbits", save(grey, "TIFF", compression="packbits")
    yield "tiff_group4", save(bits, "TIFF", compression="group4")
    yield "tiff_float", save(Image.fromarray(np.asarray(grey).astype(np.float32) * 1.5 - 40), "TIFF")

    values = synthetic(7, 5)
    yield "ppm", save(Image.fromarray(values), "PPM")
    yield "pgm", save(grey, "PPM")
    yield "pbm", save(bits, "PPM")
    yield "ppm_plain", b"P3 # note\n7 5\n255\n" + b" ".join(b"%d" % v for v in values.ravel())
    yield "pgm_plain_100", b"P2 7 5 100\n" + b"\n".join(b"%d" % (v % 101) for v in values[..., 0].ravel()) + b"\n"
    yield "pbm_plain", b"P1\n7 5\n" + b"".join(b"%d" % (v & 1) for v in values[..., 0].ravel())
    for top in (1000, 65535):
        deep = (values.astype(np.uint32) * 257 % (top + 1)).astype(">u2")
        yield f"ppm_{top}", b"P6 7 5 %d\n" % top + deep.tobytes()
        yield f"pgm_{top}", b"P5 7 5 %d\n" % top + deep[..., 0].tobytes()


# Settings of the image processor, as the JSON file has them.
CONFIGS = {
    "clip": {},
    "old": {"size": 30, "crop_size": 30, "resample": 3, "feature_extractor_type": "CLIPFeatureExtractor"},
    "odd": {"size": {"shortest_edge": 29}, "crop_size": {"height": 24, "width": 26}, "resample": 2},
    "padded": {"size": {"shortest_edge": 12}, "crop_size": {"height": 17, "width": 20}},
    "squash": {"size": {"height": 20, "width": 33}, "do_center_crop": False},
    "no_resize": {"do_resize": False, "crop_size": {"height": 15, "width": 40}},
    "no_rescale": {"size": 20, "crop_size": 20, "do_rescale": False},
    "no_normalize": {"size": 20, "crop_size": 20, "do_normalize": False},
    "half": {"size": 20, "crop_size": 20, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 0.00392156862745098},
    "lanczos": {"size": 21, "crop_size": 20, "resample": 1},
    "box": {"size": 21, "crop_size": 20, "resample": 4},
    "hamming": {"size": 21, "crop_size": 20, "resample": 5},
}
SIZES = [(1, 1), (3, 5), (31, 31), (30, 30), (37, 23), (23, 37), (61, 40), (40, 61), (1, 70), (70, 1), (100, 9), (131, 97), (7, 6), (40, 100), (64, 130), (50, 31)]


def main():
    pictures = []
    for name, data in encoded():
        rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        try:
            white = fnv(convert_to_rgb(Image.open(io.BytesIO(data)), return_numpy=True).tobytes())
        except ValueError:
            white = None
        pictures.append({
            "name": name, "width": rgb.shape[1], "height": rgb.shape[0], "rgb": fnv(rgb.tobytes()),
            "first": rgb.ravel()[:6].tolist(), "white": white, "file": data.hex(),
        })
    tensors = []
    for name, config in CONFIGS.items():
        arguments = {key: value for key, value in config.items() if key != "feature_extractor_type"}
        processor = CLIPImageProcessorPil(**arguments)
        for width, height in SIZES:
            image = Image.fromarray(synthetic(width, height))
            values = processor(image, return_tensors="np")["pixel_values"][0].astype("<f4")
            tensors.append({
                "name": name, "config": json.dumps(config), "width": width, "height": height,
                "shape": list(values.shape), "values": fnv(np.ascontiguousarray(values).tobytes()),
                "first": [float(v) for v in values.ravel()[:4]],
            })
    head = {"pillow": PIL.__version__, "transformers": transformers.__version__, "numpy": np.__version__}
    lines = [json.dumps(item) for item in pictures]
    rows = [json.dumps(item) for item in tensors]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(
        '{"made_by": "scripts/reference/make_image_goldens.py",\n "versions": ' + json.dumps(head)
        + ',\n "pictures": [\n' + ",\n".join(lines) + '\n],\n "tensors": [\n' + ",\n".join(rows) + "\n]}\n"
    )
    print(len(pictures), "pictures,", len(tensors), "tensors,", OUT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
