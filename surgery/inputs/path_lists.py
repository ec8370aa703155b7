"""Lists of files: a text with a path or an address on each line."""

from __future__ import annotations

from pathlib import Path

from surgery.addresses import hide_secrets, is_address, open_file_system
from surgery.errors import ImageError, describe_os_error
from surgery.inputs.remote_files import ask

LIST_SIGN = "@"
"""What the name of a list begins with where an image is named: ``@list.txt``."""


class ListedName(str):
    """A path or address from a list: that of a file, and never a pattern, whatever characters it has."""

    __slots__ = ()


def is_list(name: str) -> bool:
    """Return whether a name stands for a list: ``@list.txt``, unless there is a file of that very name."""
    return name.startswith(LIST_SIGN) and len(name) > 1 and not Path(name).exists()


def read_list(name: str) -> list[ListedName]:
    """Return what is in the list that a name such as ``@list.txt`` or ``@s3://bucket/list.txt`` stands for.

    Raises ImageError.
    """
    place = name.removeprefix(LIST_SIGN)
    if is_address(place):
        return parse_list(ask(lambda: _fetch(place), place), hide_secrets(place))
    path = Path(place)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"can't read the list {path}: {describe_os_error(error)}") from error
    return parse_list(content, str(path))


def _fetch(address: str) -> bytes:
    file_system, place = open_file_system(address)
    content: bytes = file_system.cat_file(place)
    return content


def parse_list(content: bytes, name: str) -> list[ListedName]:
    """Return what is in a list, in its order: one on each line, or one before each NUL, as ``find -print0`` has it.

    The text is UTF-8; what is not is kept as it is in names of files. Relative paths are relative to the current
    folder. Empty lines are skipped. `name` says which list it is in messages. Raises ImageError for a list without
    paths, and for content that is no list.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    names = [line for line in lines if line.strip()]
    if any(character < " " and character != "\n" for line in names for character in line):
        raise ImageError(f"{name} is not a list of files: it must be a text with a path on each line")
    if not names:
        raise ImageError(f"the list {name} names no files")
    return [ListedName(line) for line in names]
