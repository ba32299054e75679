"""A bar of tqdm, where that is installed and wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable


@contextmanager
def progress_bar(total: int | None, show: bool) -> Iterator[Callable[[int], object]]:
    """A function that is told how much is done."""
    if not show:
        yield _nothing
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield _nothing
        return
    with tqdm(total=total) as bar:

        def tick(done: int) -> None:
            bar.update(done - bar.n)

        yield tick
        if total is not None:
            tick(total)


def _nothing(_done: int) -> None:
    pass
