"""AltCLIP: pictures and sentences of many languages in one space.

    import altclip

    model = altclip.load("nano")                     # or a folder, a packed file, "BAAI/AltCLIP"
    texts = model.encode_text(["一只猫", "a dog"])     # float32 [2, E], L2-normalised
    images = model.encode_image(["cat.jpg"])         # paths, bytes, PIL images, numpy arrays
    model.similarity(images, texts)                  # cosines, float32 [1, 2]
    model.classify("cat.jpg", ["猫", "狗"])            # [{"label": "猫", "score": 0.99}, …]

The classes `AltCLIP` and `AltCLIPProcessor` take the place of those of transformers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from altclip._native import __version__

if TYPE_CHECKING:
    from altclip._array import Array
    from altclip._errors import (
        AltClipError,
        AltClipFileError,
        AltClipFileNotFoundError,
        AltClipIndexError,
        AltClipInputError,
        AltClipInternalError,
        AltClipMemoryError,
        AltClipModelError,
        AltClipResourceError,
        AltClipStateError,
        AltClipTypeError,
        AltClipWarning,
    )
    from altclip._index import Index
    from altclip._model import AltCLIP, Model, ModelOutput, load
    from altclip._mteb import MtebEncoder
    from altclip._processor import AltCLIPProcessor, Inputs
    from altclip._tasks import (
        download,
        evaluate,
        run,
        samples,
        train_clip,
        train_contrastive,
        train_distill,
        train_finetune,
    )

_PLACES = {
    "_array": ["Array"],
    "_errors": [
        "AltClipError",
        "AltClipFileError",
        "AltClipFileNotFoundError",
        "AltClipIndexError",
        "AltClipInputError",
        "AltClipInternalError",
        "AltClipMemoryError",
        "AltClipModelError",
        "AltClipResourceError",
        "AltClipStateError",
        "AltClipTypeError",
        "AltClipWarning",
    ],
    "_index": ["Index"],
    "_model": ["AltCLIP", "Model", "ModelOutput", "load"],
    "_mteb": ["MtebEncoder"],
    "_processor": ["AltCLIPProcessor", "Inputs"],
    "_tasks": [
        "download",
        "evaluate",
        "run",
        "samples",
        "train_clip",
        "train_contrastive",
        "train_distill",
        "train_finetune",
    ],
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "AltCLIP",
    "AltCLIPProcessor",
    "AltClipError",
    "AltClipFileError",
    "AltClipFileNotFoundError",
    "AltClipIndexError",
    "AltClipInputError",
    "AltClipInternalError",
    "AltClipMemoryError",
    "AltClipModelError",
    "AltClipResourceError",
    "AltClipStateError",
    "AltClipTypeError",
    "AltClipWarning",
    "Array",
    "Index",
    "Inputs",
    "Model",
    "ModelOutput",
    "MtebEncoder",
    "__version__",
    "download",
    "evaluate",
    "load",
    "run",
    "samples",
    "train_clip",
    "train_contrastive",
    "train_distill",
    "train_finetune",
]


def __getattr__(name: str) -> Any:
    # Modules are imported when a name of theirs is first used: `import altclip` reads none of them, nor numpy.
    place = _PLACE_OF.get(name)
    if place is None:
        raise AttributeError(f"module 'altclip' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"altclip.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
