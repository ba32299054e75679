"""Texts and pictures to the inputs of a model, as the processor of transformers makes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Union

import numpy as np

from altclip import _array, _images, _native
from altclip._errors import refusal

Path = Union[str, os.PathLike[str]]

# What "not truncated" means: longer than any text that is read.
_UNLIMITED = 1 << 31
_DEFAULT_LENGTH = 77


class Inputs(dict):  # type: ignore[type-arg]
    """Inputs by name; also as attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *_args: Any, **_kwargs: Any) -> Inputs:
        """Itself: there is one device."""
        return self


class AltCLIPProcessor:
    """Tokenizer and image processor of a model folder; weights are not read."""

    def __init__(self, native: _native.Processor) -> None:
        self._native = native

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: Path,
        *,
        revision: str | None = None,
        cache_dir: Path | None = None,
        local_files_only: bool = False,
        token: Any = None,
        use_auth_token: Any = None,
        **_ignored: Any,
    ) -> AltCLIPProcessor:
        """The processor of a folder, hub id or packed file; arguments as for `AltCLIP.from_pretrained`."""
        from altclip._model import located

        name = located(pretrained_model_name_or_path, revision, cache_dir, local_files_only, token or use_auth_token)
        return cls(_native.Processor.load(name))

    def __repr__(self) -> str:
        return f"<altclip.AltCLIPProcessor {self._native.folder}>"

    def __call__(
        self,
        text: str | Iterable[str] | None = None,
        images: Any = None,
        *,
        return_tensors: str | None = None,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        **_ignored: Any,
    ) -> Inputs:
        """Texts to `input_ids` and `attention_mask`, pictures to `pixel_values`.

        Args:
            text: A text or several.
            images: A picture or several, as for `Model.encode_image`.
            return_tensors: `pt` (tensors of torch, where it is installed), `np`, or None for lists.
            padding: True or `longest` to the longest text, `max_length`, or False.
            truncation: True cuts texts to `max_length`; else they stay as they are, and a model refuses texts that
                are longer than it takes.
            max_length: Longest text in tokens, 77 unless given.

        Returns:
            `input_ids` and `attention_mask` int64 `[texts, T]`, `pixel_values` float32 `[images, 3, Y, X]`.
        """
        if text is None and images is None:
            raise refusal("E1101", "there is nothing to process", where="text, images", got="None",
                          expected="a text or a picture", help="pass text=…, images=… or both")  # fmt: skip
        if return_tensors not in ("pt", "np", None):
            raise refusal("E1101", "this kind of array is not made", where="return_tensors", got=str(return_tensors),
                          expected="pt, np or None", help="take np")  # fmt: skip
        inputs = Inputs()
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            limit = max_length or _DEFAULT_LENGTH
            rows = self._ids(texts, limit if truncation else _UNLIMITED)
            inputs.update(self._padded(rows, return_tensors, padding, limit))
        if images is not None:
            items = [images] if _images.is_one(images) else list(images)
            # Transparent PIL images lie on white, as transformers lays them; those of files do not, as there.
            data, height, width = self._native.pixel_values(_images.many(items, alpha="composite"))
            pixels = _array.from_bytes(data, height * width * 3).reshape(-1, 3, height, width)
            inputs["pixel_values"] = _array.as_tensors(pixels, return_tensors)
        return inputs

    def _ids(self, texts: list[str], limit: int) -> list[Any]:
        data, lengths, _ = self._native.encode(texts, limit)
        ids = np.frombuffer(data, dtype="<u4").astype(np.int64)
        return np.split(ids, np.cumsum(lengths)[:-1]) if lengths else []

    def _padded(self, rows: Sequence[Any], kind: str | None, padding: bool | str, limit: int) -> dict[str, Any]:
        longest = max((len(row) for row in rows), default=0)
        if not padding or padding == "do_not_pad":
            if kind is None:
                return {"input_ids": [row.tolist() for row in rows],
                        "attention_mask": [[1] * len(row) for row in rows]}  # fmt: skip
            if any(len(row) != longest for row in rows):
                raise refusal("E1101", "texts of different lengths make no array", where="padding", got="False",
                              expected="True, or return_tensors=None", help="pass padding=True")  # fmt: skip
        width = max(longest, limit) if padding == "max_length" else longest
        ids = np.full((len(rows), width), self._native.pad_id, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for n, row in enumerate(rows):
            ids[n, : len(row)] = row
            mask[n, : len(row)] = 1
        return {"input_ids": _array.as_tensors(ids, kind), "attention_mask": _array.as_tensors(mask, kind)}

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str | None]:
        """The tokens of ids, as the tokenizer's files write them; None for what is none."""
        return [self._native.token(int(id)) for id in ids]
