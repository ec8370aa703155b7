"""What is noticed while inputs are found and read, and is no error."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

Notes: TypeAlias = "dict[str, tuple[str, int]]"
"""What was noticed -> the first file it is true of, and how many files in all."""

_collected: ContextVar[Notes | None] = ContextVar("surgery_notes", default=None)


def add_note(path: str | PathLike[str], text: str, *, doubtful: bool = False) -> None:
    """Note something about a file.

    Outside of `collect_notes`, a doubtful note becomes a Python warning and other notes are discarded.

    Equal texts are reported once, so a text names the kind of thing and not the numbers of one file.
    """
    notes = _collected.get()
    if notes is not None:
        merge_notes(notes, {text: (str(path), 1)})
    elif doubtful:
        warnings.warn(f"{path}: {text}", stacklevel=3)


@contextmanager
def collect_notes(notes: Notes) -> Iterator[None]:
    """Within the block, and on this thread, what is noted is added to `notes`."""
    token = _collected.set(notes)
    try:
        yield
    finally:
        _collected.reset(token)


def merge_notes(notes: Notes, more: Notes) -> None:
    """Add notes to others. Of the files, the first by name is kept: several processes read them in any order."""
    for text, (path, count) in more.items():
        first, before = notes.get(text, (path, 0))
        notes[text] = min(first, path), before + count


def format_notes(notes: Notes) -> tuple[str, ...]:
    """One line for each note."""
    return tuple(
        f"{path}{f' and {count - 1} more' if count > 1 else ''}: {text}" for text, (path, count) in notes.items()
    )
