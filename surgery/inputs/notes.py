"""Notes about files while they are found and read."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from surgery.output import Notes, merge_notes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

_current: ContextVar[Notes | None] = ContextVar("surgery_notes", default=None)


def add_note(path: str | PathLike[str], text: str, *, doubtful: bool = False) -> None:
    """Note something about a file.

    Outside of `collect_notes`, a doubtful note becomes a Python warning and other notes are discarded. Notes with equal
    texts are reported once, so a text describes the kind of finding, without numbers of one file.
    """
    notes = _current.get()
    if notes is not None:
        merge_notes(notes, {text: (str(path), 1)})
    elif doubtful:
        warnings.warn(f"{path}: {text}", stacklevel=3)


@contextmanager
def collect_notes(notes: Notes) -> Iterator[None]:
    """Within the block, and on this thread, add each new note to `notes`."""
    token = _current.set(notes)
    try:
        yield
    finally:
        _current.reset(token)
