"""Exceptions: each has the fields of the command line's errors, and a base that Python's users know."""

from __future__ import annotations

from typing import Optional


class AltClipWarning(UserWarning):
    """Something that the caller should know, such as a truncated text."""


class AltClipError(Exception):
    """An error of the library.

    Attributes:
        code: A stable code, such as ``E4003``; docs/errors.md lists them all.
        area: The part that speaks: ``checkpoint``, ``tokenizer``, ``image``, …
        where: File, byte, tensor, or number of the item in the call.
        got: What was found.
        expected: What was expected, or the limit.
        help: What to do next.
        others: Further faults of the same file.
    """

    code: str = "E9001"
    area: str = "altclip"
    where: str | None = None
    got: str | None = None
    expected: str | None = None
    help: str = ""
    others: tuple[AltClipError, ...] = ()

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class AltClipInputError(AltClipError, ValueError):
    """A text, picture, array, dataset or argument was refused."""


class AltClipTypeError(AltClipInputError, TypeError):
    """An argument is of a type that is not accepted."""


class AltClipModelError(AltClipError, ValueError):
    """A file of the model was refused."""


class AltClipIndexError(AltClipError, RuntimeError):
    """An index was refused: damaged, locked, or of another model."""


class AltClipFileError(AltClipError, OSError):
    """A file or the network cannot be used."""


class AltClipFileNotFoundError(AltClipFileError, FileNotFoundError):
    """There is no such file, folder or model."""


class AltClipResourceError(AltClipError, RuntimeError):
    """The machine does not give what is needed."""


class AltClipMemoryError(AltClipResourceError, MemoryError):
    """There is not enough memory."""


class AltClipStateError(AltClipError, RuntimeError):
    """An object was closed or belongs to another process, or a run was interrupted with its state saved."""


class AltClipInternalError(AltClipError, RuntimeError):
    """A bug of this library. The process may go on."""


_OF_STATUS: dict[int, type[AltClipError]] = {
    2: AltClipInputError,
    3: AltClipInputError,
    4: AltClipModelError,
    5: AltClipIndexError,
    6: AltClipResourceError,
    7: AltClipFileError,
    8: AltClipStateError,
    75: AltClipStateError,
}
# Where nothing is there, and where something is there that cannot be read.
_NOT_FOUND = {"E2001", "E2006", "E2008"}
_OF_CODE: dict[str, type[AltClipError]] = {
    "E9002": AltClipMemoryError,
    "E6007": AltClipMemoryError,
    "E9101": AltClipStateError,
}

Fields = tuple[str, str, str, Optional[str], Optional[str], Optional[str], str, int]


def _class_of(code: str, got: str | None, status: int, line: str) -> type[AltClipError]:
    if code in _NOT_FOUND or (status == 7 and "os error 2)" in f"{got} {line}"):
        return AltClipFileNotFoundError
    if code == "E1101" and "of a type that is not accepted" in line:
        return AltClipTypeError
    return _OF_CODE.get(code) or _OF_STATUS.get(status, AltClipInternalError)


def _one(fields: Fields) -> AltClipError:
    code, area, line, where, got, expected, help_, status = fields
    error = _class_of(code, got, status, line)(line)
    error.code, error.area, error.where = code, area, where
    error.got, error.expected, error.help = got, expected, help_
    return error


def exception_of(reports: list[Fields]) -> AltClipError:
    """The exception of all faults of a call; the first decides its class."""
    if not reports:
        return refusal("E9001", "a call ended without saying why", got="nothing")
    first, *others = [_one(fields) for fields in reports]
    first.others = tuple(others)
    return first


def refusal(
    code: str,
    message: str,
    *,
    area: str = "python",
    where: str | None = None,
    got: str | None = None,
    expected: str | None = None,
    help: str = "",
    status: int | None = None,
) -> AltClipError:
    """An exception of this half of the package, in the form of all others."""
    sentence = message
    if got is not None:
        sentence += f": got {got}"
    if expected is not None:
        sentence += f"{',' if got is not None else ':'} expected {expected}"
    if where is not None:
        sentence += f" ({where})"
    line = f"error[{code}] {area}: {sentence}." + (f" help: {help}" if help else "")
    if status is None:
        status = {"E1": 2, "E3": 3, "E4": 3}.get(code[:2], 70)
    return _one((code, area, line, where, got, expected, help, status))
