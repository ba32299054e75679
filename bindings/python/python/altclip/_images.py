"""Pictures of any kind as what the native half takes: a path, the bytes of a file, or RGB pixels."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Union

from altclip._errors import refusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Native = Union[str, bytes, tuple[int, int, bytes]]
    Image = Union[str, os.PathLike[str], bytes, bytearray, memoryview, NDArray[np.uint8], Any]


def native(image: Image, number: int = 0, alpha: str = "drop") -> Native:
    """One picture for the native half; its pixels are copied.

    Args:
        image: A path, the bytes of a file, a PIL image, or a uint8 array: `[H, W, 3]`, `[H, W, 4]`,
            `[H, W, 1]`, `[H, W]`, or `[3, H, W]` where that cannot be meant otherwise.
        number: Its number in the call, for errors.
        alpha: What becomes of transparency: `drop` or `composite` on white.
    """
    if isinstance(image, str):
        return _path(image, number)
    if isinstance(image, bytes):
        return image
    if isinstance(image, (bytearray, memoryview)):
        return bytes(image)
    if hasattr(image, "convert") and hasattr(image, "mode"):
        return _of_pil(image, alpha)
    if isinstance(image, os.PathLike):
        return _path(os.fspath(image), number)
    if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
        return _of_array(image, number, alpha)
    raise refusal("E1101", "an argument is of a type that is not accepted", where=f"images[{number}]",
                  got=type(image).__name__, expected="a path, bytes, a PIL image or a numpy array",
                  help="open or convert it first")  # fmt: skip


def many(images: Iterable[Image], start: int = 0, alpha: str = "drop") -> list[Native]:
    """Several pictures for the native half; the first has the number `start`."""
    return [native(image, start + n, alpha) for n, image in enumerate(images)]


def is_one(images: Any) -> bool:
    """Whether this is one picture, not several."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike)):
        return True
    if hasattr(images, "convert") and hasattr(images, "mode"):
        return True
    ndim = getattr(images, "ndim", None)
    return ndim is not None and ndim < 4


def listed(images: Any) -> list[Any]:
    """Several pictures, also where one was given."""
    return [images] if is_one(images) else list(images)


def is_image(item: Any) -> bool:
    """Whether this is a picture and no text, where both are accepted."""
    return not isinstance(item, str) and is_one(item)


def _path(path: Any, number: int) -> str:
    if isinstance(path, bytes):
        return os.fsdecode(path)
    if "\0" in path:
        raise refusal("E1101", "a path cannot be used", where=f"images[{number}]", got="a NUL in it",
                      expected="the path of a file", help="pass the bytes of a file as bytes")  # fmt: skip
    return str(path)


def _of_pil(image: Any, alpha: str) -> Native:
    transparent = "A" in image.getbands() or image.info.get("transparency") is not None
    if alpha == "composite" and transparent:
        from PIL import Image

        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    width, height = image.size
    return width, height, image.tobytes()


def _of_array(image: Any, number: int, alpha: str) -> Native:
    import numpy as np

    from altclip._array import to_numpy

    array = to_numpy(image)
    where = f"images[{number}]"

    def refused(what: str, got: str, help: str) -> Exception:
        expected = "uint8 [H, W, 3]"
        return refusal("E4101", what, area="image", where=where, got=got, expected=expected, help=help)

    if array.dtype != np.uint8:
        raise refused("pixels of this type can mean several things", f"dtype {array.dtype}",
                      "for 0…1: (image * 255).round().astype('uint8')")  # fmt: skip
    shape = array.shape
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.ndim == 3 and shape[0] == 3 and shape[2] in (1, 3, 4):
        # Three rows of a tiny picture, or three channels of a narrow one.
        raise refused("this shape can mean channels first or last", f"shape {list(shape)}",
                      "hand over a PIL image, or another size")  # fmt: skip
    elif array.ndim == 3 and shape[0] == 3:
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise refused("an array of this shape is no picture", f"shape {list(shape)}",
                      "channels go last: image.transpose(1, 2, 0)")  # fmt: skip
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    elif array.shape[2] == 4 and alpha == "composite":
        share = array[:, :, 3:] / 255
        array = np.round(share * array[:, :, :3] + (1 - share) * 255).astype(np.uint8)
    else:
        array = array[:, :, :3]
    height, width, _ = array.shape
    return width, height, array.tobytes()
