"""Lists of files: a text with a path on each line."""

from __future__ import annotations

import sys
from pathlib import Path

from surgery.errors import ImageError, describe_os_error

if sys.platform == "win32":
    from pathlib import WindowsPath as _SystemPath
else:
    from pathlib import PosixPath as _SystemPath

LIST_SIGN = "@"
"""What the name of a list begins with where an image is named: ``@list.txt``."""


class ListedPath(_SystemPath):
    """A path from a list: that of a file, and never a pattern, whatever characters it has."""

    __slots__ = ()


def is_list(name: str) -> bool:
    """Return whether a name stands for a list: ``@list.txt``, unless there is a file of that very name."""
    return name.startswith(LIST_SIGN) and len(name) > 1 and not Path(name).exists()


def read_list(name: str) -> list[ListedPath]:
    """Return the paths in the list that a name such as ``@list.txt`` stands for. Raises ImageError."""
    path = Path(name.removeprefix(LIST_SIGN))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"can't read the list {path}: {describe_os_error(error)}") from error
    return parse_list(content, str(path))


def parse_list(content: bytes, name: str) -> list[ListedPath]:
    """Return the paths in a list, in its order: one on each line, or one before each NUL, as ``find -print0`` has it.

    The text is UTF-8; what is not is kept as it is in names of files. Relative paths are relative to the current
    folder. Empty lines are skipped. `name` says which list it is in messages. Raises ImageError for a list without
    paths, and for content that is no list.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    paths = [line for line in lines if line.strip()]
    if any(character < " " and character != "\n" for path in paths for character in path):
        raise ImageError(f"{name} is not a list of files: it must be a text with a path on each line")
    if not paths:
        raise ImageError(f"the list {name} names no files")
    return [ListedPath(path) for path in paths]
