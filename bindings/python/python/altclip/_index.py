"""An index of pictures on the disk, searched with words of any language, pictures, or both."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any, Union

from altclip import _native
from altclip._model import Model, load
from altclip._tasks import rows

Path = Union[str, os.PathLike[str]]


class Answer(list):  # type: ignore[type-arg]
    """What was found, the best first: `{"id", "path", "score": cosine, "p_match": probability or None}` each.

    Attributes:
        no_match: Nothing is probable to match.
        uncalibrated: Why there are no probabilities, if so.
    """

    no_match: bool = False
    uncalibrated: str | None = None


class Index:
    """An index in a folder. It follows folders of pictures, and loses nothing that it acknowledged.

    Args:
        folder: Where it lies; it is made by the first `add`.
        model: A loaded model or its name; the one that the index names unless given.
    """

    def __init__(self, folder: Path, model: Model | Path | None = None) -> None:
        self._folder = os.fspath(folder)
        self._loaded: Model | None = model if isinstance(model, Model) else None
        self._name: Path | None = None if isinstance(model, Model) else model
        self._search: _native.Search | None = None
        self._lock = threading.Lock()

    def add(self, *paths: Path, tag: Iterable[str] = (), rebuild: bool = False, max_bad: str = "0") -> dict[str, Any]:
        """Adds pictures, or folders of them; what is there already and unchanged is left.

        Args:
            *paths: Pictures and folders.
            tag: Words that the pictures can be found by.
            rebuild: Make the index anew with this model; the present one serves until that is complete.
            max_bad: How many pictures may be refused before it is an error: a number or a percentage.

        Returns:
            `{"acknowledged": [paths], "removed": [paths], "refused": {path: error}}`.
        """
        options = {"index": self._folder, "tag": list(tag), "rebuild": rebuild, "max_bad": max_bad}
        return self._changed("add", {**options, **self._model_flags()}, paths)

    def update(self, *, max_bad: str = "0") -> dict[str, Any]:
        """Looks through the folders again: new, changed, moved and deleted pictures. As `add`."""
        return self._changed("update", {"index": self._folder, "max_bad": max_bad, **self._model_flags()}, ())

    def remove(self, *paths: Path) -> dict[str, Any]:
        """Forgets pictures and folders; their files are not touched."""
        return self._changed("remove", {"index": self._folder}, paths)

    def status(self) -> dict[str, Any]:
        """`{"images", "model", "fingerprint", "precision", "width", "folders", "acknowledged"}`."""
        (found,) = rows("index", "status", flags={"index": self._folder})
        return found

    def verify(self) -> dict[str, Any]:
        """Reads everything and compares it with its checksums; raises `AltClipIndexError` for damage."""
        (found,) = rows("index", "verify", flags={"index": self._folder})
        return found

    def __len__(self) -> int:
        return int(self.status()["images"])

    def search(
        self,
        query: str | None = None,
        top_k: int = 10,
        *,
        images: Iterable[Path] = (),
        min_p: float = 0.0,
        exact: bool = False,
        path: Iterable[str] = (),
        tag: Iterable[str] = (),
        since: str | None = None,
        until: str | None = None,
        min_side: int | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """The pictures that match.

        Args:
            query: Words in any language of the model, with `+`, `-`, weights (`2*red`), AND, OR, NOT.
            top_k: Most pictures.
            images: Files of pictures that are looked for, beside the query.
            min_p: Least probability of a match.
            exact: Compare every vector, without estimates.
            path: Only pictures whose path fits one of these patterns.
            tag: Only pictures that were added with all these words.
            since: Only pictures taken on this day or later: `2024`, `2024-05` or `2024-05-31`.
            until: Only pictures taken on this day or earlier.
            min_side: Only pictures whose shorter side has so many pixels.
            max_bytes: Only files of at most so many bytes.
        """
        found = self._opened().search(
            query, [os.fspath(image) for image in images], top_k=top_k, exact=exact, paths=list(path), tags=list(tag),
            since=since, until=until, min_side=min_side, max_bytes=max_bytes,
        )  # fmt: skip
        matches: Any = found["matches"]
        answer = Answer(match for match in matches if match["p_match"] is None or match["p_match"] >= min_p)
        answer.no_match = bool(found["no_match"])
        answer.uncalibrated = found["uncalibrated"]  # type: ignore[assignment]
        return answer

    def close(self) -> None:
        """Lets go of the open files; the next search opens them again."""
        with self._lock:
            if self._search is not None:
                self._search.close()
                self._search = None

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _opened(self) -> _native.Search:
        with self._lock:
            if self._search is None:
                model = self._model()
                self._search = _native.Search.open(self._folder, model._native)
            return self._search

    def _model(self) -> Model:
        if self._loaded is None:
            name, precision, decode = _native.Search.settings(self._folder)
            alpha = "composite" if "CompositeWhite" in decode else "drop"
            self._loaded = load(self._name or name, precision, exif_orient="=true" in decode, alpha=alpha)
        return self._loaded

    def _model_flags(self) -> dict[str, Any]:
        return {"model": self._name} if self._loaded is None else self._loaded._flags()

    def _changed(self, command: str, options: dict[str, Any], paths: Iterable[Path]) -> dict[str, Any]:
        self.close()
        summary: dict[str, Any] = {"acknowledged": [], "removed": [], "refused": {}}
        for row in rows("index", command, flags=options, paths=paths):
            if "error" in row:
                summary["refused"][row["input"]] = row["error"]
            else:
                summary["acknowledged" if row.get("ack") else "removed"].append(row["path"])
        return summary
