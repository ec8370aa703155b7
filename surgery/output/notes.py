"""Notes: what a user should know about files that were found and read, without being an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Notes: TypeAlias = "dict[str, tuple[str, int]]"
"""The text of each note, with the first file that it applies to and the number of such files."""


def merge_notes(notes: Notes, more: Mapping[str, tuple[str, int]]) -> None:
    """Add the notes of `more` to `notes`.

    The first file by name is kept, since several processes read the files in any order.
    """
    for text, (path, count) in more.items():
        first, before = notes.get(text, (path, 0))
        notes[text] = min(first, path), before + count


def format_notes(notes: Mapping[str, tuple[str, int]]) -> tuple[str, ...]:
    """Return one line for each note: the first file, the number of other files, and the text; sorted by the file."""
    return tuple(
        f"{path}{f' and {count - 1} more' if count > 1 else ''}: {text}"
        for text, (path, count) in sorted(notes.items(), key=lambda note: (note[1][0], note[0]))
    )
