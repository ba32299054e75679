"""Arrays: from bytes of the native half, and with the few methods of torch that examples of CLIP use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from altclip._errors import refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


class Array(np.ndarray):
    """A numpy array that also has `softmax`, `argmax(dim=…)`, `numpy`, `detach`, `cpu`, `t` and `to`."""

    def softmax(self, dim: int = -1) -> Array:
        """Shares that sum to 1 along an axis."""
        powers = np.exp(self - self.max(axis=dim, keepdims=True))
        shares: Array = powers / powers.sum(axis=dim, keepdims=True)
        return shares

    def argmax(self, dim: int | None = None, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """The place of the largest number, along an axis if one is given."""
        found = self.numpy().argmax(kwargs.pop("axis", dim), *args, **kwargs)
        return found.view(Array) if isinstance(found, np.ndarray) else found

    def numpy(self) -> NDArray[Any]:
        """The same numbers as a plain array."""
        return self.view(np.ndarray)

    def detach(self) -> Array:
        """Itself: there are no gradients here."""
        return self

    def cpu(self) -> Array:
        """Itself."""
        return self

    def t(self) -> Array:
        """Rows and columns exchanged."""
        turned: Array = self.transpose()
        return turned

    def to(self, *_args: Any, **_kwargs: Any) -> Array:
        """Itself: there is one device and one type."""
        return self


def from_bytes(data: bytearray, width: int) -> Floats:
    """Rows of the native half as a float32 array `[N, width]`, without a copy."""
    return np.frombuffer(data, dtype="<f4").reshape(-1, width)


def to_bytes(array: Any, name: str, shape: str, ndim: int) -> tuple[bytes, tuple[int, ...]]:
    """Numbers as little-endian float32, copied, and their shape.

    Any layout and any floating type is taken: strided, reversed, read-only, big-endian, float64.
    """
    found = to_numpy(array)
    if found.dtype.kind != "f":
        raise refusal("E4101", f"{name} are no floats", where=name, got=f"dtype {found.dtype}",
                      expected="float32", help=f"{name}.astype('float32')")  # fmt: skip
    if found.ndim != ndim:
        raise refusal("E4101", f"{name} have another shape", where=name, got=f"shape {list(found.shape)}",
                      expected=shape, help="look at where they come from")  # fmt: skip
    return found.astype("<f4", order="C").tobytes(), found.shape


def to_numpy(value: Any) -> NDArray[Any]:
    """Whatever holds numbers as an array, without a copy where that is possible."""
    if is_torch(value):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
        return value.numpy()  # type: ignore[no-any-return]
    try:
        return np.asarray(value)
    except ValueError as error:
        raise refusal("E4101", "numbers do not make an array", got=str(error)[:80], expected="rows of one length",
                      help="pad them, or hand over one at a time") from error  # fmt: skip


def is_torch(value: Any) -> bool:
    """Whether it is a tensor of torch, without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch"


def torch_or_none() -> Any:
    """The module torch, where it can be imported."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def as_tensors(array: NDArray[Any], kind: str | None) -> Any:
    """An array as `"pt"` (torch where it is there, else `Array`), `"np"` or None (lists)."""
    if kind is None:
        return array.tolist()
    torch = torch_or_none() if kind == "pt" else None
    if torch is not None:
        # Shares the memory.
        return torch.from_numpy(array)
    return array.view(Array)
