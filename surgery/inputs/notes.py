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
_shown: ContextVar[tuple[str, str] | None] = ContextVar("surgery_shown_file", default=None)
"""The path of a temporary file, and the name of what it is a copy of."""


def add_note(path: str | PathLike[str], text: str, *, doubtful: bool = False) -> None:
    """Note something about a file.

    Outside of `collect_notes`, a doubtful note becomes a Python warning and other notes are discarded. Notes with equal
    texts are reported once, so a text describes the kind of finding, without numbers of one file.
    """
    notes, name = _current.get(), str(path)
    if (shown := _shown.get()) is not None and shown[0] == name:
        name = shown[1]
    if notes is not None:
        merge_notes(notes, {text: (name, 1)})
    elif doubtful:
        warnings.warn(f"{name}: {text}", stacklevel=3)


@contextmanager
def showing(path: str | PathLike[str], name: str) -> Iterator[None]:
    """Within the block, and on this thread, notes about the file at `path` are about `name`."""
    token = _shown.set((str(path), name))
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def collect_notes(notes: Notes) -> Iterator[None]:
    """Within the block, and on this thread, add each new note to `notes`."""
    token = _current.set(notes)
    try:
        yield
    finally:
        _current.reset(token)
