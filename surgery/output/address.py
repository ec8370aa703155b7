"""Where a run writes to: a folder of this machine, or an address of a file system that fsspec knows."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from surgery.addresses import hide_secrets, is_address, local_path
from surgery.errors import OutputError

_READ_ONLY = ("http://", "https://")
_AS_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(?=/)")
"""The beginning of an address that was made a path, which has one slash."""


@dataclass(frozen=True, slots=True)
class Address:
    """A folder of another file system, such as ``s3://bucket/run``. Its text leaves out passwords."""

    text: str = field(repr=False)
    """As it was given, without a slash at its end."""

    def __str__(self) -> str:
        return hide_secrets(self.text)

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.text}/{name}")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """The folder that it is in."""
        return Address(self.text.rpartition("/")[0])


Place: TypeAlias = Path | Address


def parse_place(out: str | os.PathLike[str] | Address) -> Place:
    """Return the folder or the address that a text names; ``file:///runs/1`` is a folder of this machine.

    Raises OutputError for an address that can't be written to.
    """
    if isinstance(out, Address):
        return out
    text = os.fspath(out)
    if (path := local_path(text)) is not None:
        return Path(path)
    if not is_address(text):
        return check_folder(Path(out))
    address = Address(text.rstrip("/"))
    if text.lower().startswith(_READ_ONLY):
        raise OutputError(
            f"can't write to {address}: a web server is only read; write to a folder, or to an s3:// address"
        )
    if "::" in text or any(mark in text for mark in "*?[]"):
        raise OutputError(f"can't write to {address}: an address to write to has no * ? [ ] or :: in it")
    if not address.text.partition("://")[2].strip("/"):
        raise OutputError(f"{text} names no folder; add one, such as {text.partition('://')[0]}://bucket/run")
    return address


def check_folder(folder: Path) -> Path:
    """Return a folder. Raises OutputError if its path was made of an address, which not everything can be done with."""
    text = folder.as_posix()
    if not _AS_PATH.match(text) or folder.exists():
        return folder
    address = hide_secrets(text.replace(":/", "://", 1))
    raise OutputError(f"{address} is an address where a folder of this machine is asked for; copy it to a folder first")
