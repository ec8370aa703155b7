"""Notes: what a user should know about files that were found and read, without being an error."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

Notes: TypeAlias = "dict[str, tuple[str, int]]"
"""The text of each note, with the first file that it applies to and the number of such files."""

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


def merge_notes(notes: Notes, more: Notes) -> None:
    """Add the notes of `more` to `notes`.

    The first file by name is kept, since several processes read the files in any order.
    """
    for text, (path, count) in more.items():
        first, before = notes.get(text, (path, 0))
        notes[text] = min(first, path), before + count


def format_notes(notes: Notes) -> tuple[str, ...]:
    """Return one line for each note: the first file, the number of other files, and the text."""
    return tuple(
        f"{path}{f' and {count - 1} more' if count > 1 else ''}: {text}" for text, (path, count) in notes.items()
    )
