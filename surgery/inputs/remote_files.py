"""Files at addresses: ``s3://bucket/photos/a.png``, and what a folder or a pattern there stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from surgery.addresses import (
    address_identity,
    address_name,
    describe_address_error,
    hide_secrets,
    is_address,
    local_path,
    open_file_system,
    retry,
)
from surgery.errors import ImageError
from surgery.inputs.input_files import FileGroup, StoredFile

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from surgery.inputs.file_selection import FileSelection
    from surgery.inputs.input_files import InputFile
    from surgery.inputs.text_table import TextTable

T = TypeVar("T")

_LINKS = re.compile(r"(?P<before>(?:[^:/]+::)*)(?P<main>[^:/]+://.*?)(?P<behind>::.*)?", re.DOTALL)
"""The parts of a chain such as ``simplecache::s3://bucket/a.png`` or ``zip://a.png::s3://bucket/photos.zip``."""
_MAGIC, _WEB_MAGIC = re.compile(r"[*?\[]"), re.compile(r"[*\[]")


@dataclass(frozen=True, slots=True)
class RemoteFile(StoredFile):
    """A file at an address."""

    address: str
    """With what it needs to be opened; not to be shown."""

    def __str__(self) -> str:
        return hide_secrets(self.address)

    @property
    def name(self) -> str:
        return address_name(self.address)

    @property
    def label(self) -> str:
        return self.stem or "input"

    @property
    def identity(self) -> str:
        return address_identity(self.address)

    def copy_to(self, path: Path) -> None:
        def fetch() -> None:
            file_system, place = open_file_system(self.address)
            file_system.get_file(place, str(path))

        retry(fetch)


@dataclass(frozen=True, slots=True, eq=False)
class RemoteFiles(FileGroup):
    """Files at addresses."""

    addresses: TextTable

    def __len__(self) -> int:
        return len(self.addresses)

    def item(self, number: int) -> RemoteFile:
        """Return the file with a number."""
        return RemoteFile(self.addresses.item(number))


def as_input(name: str | os.PathLike[str]) -> InputFile:
    """Return the file that a path or an address names."""
    if not (isinstance(name, str) and is_address(name)):
        return Path(name)
    path = local_path(name)
    return RemoteFile(name) if path is None else Path(path)


def find_remote_files(address: str, selection: FileSelection) -> Sequence[str]:
    """Return the addresses of the files that an address stands for: of a file, a folder or a pattern.

    A file is named by its address and not looked for; one without a suffix is a folder if there is one. On the web a
    folder ends with ``/``. Raises ImageError for a folder or a pattern without a matching file, and for one that can't
    be read.
    """
    links = _LINKS.fullmatch(address)
    main = address if links is None else links["main"]
    before, behind = ("", "") if links is None else (links["before"], links["behind"] or "")
    is_web = main.lower().startswith(("http://", "https://"))
    magic = (_WEB_MAGIC if is_web else _MAGIC).search(main)
    is_folder = main.endswith("/")
    name = address_name(address)
    if not magic and not is_folder and (is_web or selection.has_suffix(name) or selection.is_shard(name)):
        return [address]
    shown = hide_secrets(address)

    def look() -> Sequence[str] | None:
        file_system, place = open_file_system(address)
        if magic and not file_system.exists(place):
            start = main[: magic.start()].rpartition("/")[0]
            found = file_system.glob(place, detail=True)
            files = [name for name, about in found.items() if about.get("type") == "file"]
        elif is_folder or (not magic and file_system.isdir(place)):
            start = main.rstrip("/")
            files = [each["name"] for each in file_system.ls(place, detail=True) if each.get("type") == "file"]
        else:
            return None
        root = open_file_system(f"{before}{start}{behind}")[1].rstrip("/")
        return [f"{before}{start}{name.removeprefix(root)}{behind}" for name in sorted(files)]

    found = ask(look, address)
    if found is None:
        return [address]
    if magic:
        return selection.choose_matches(shown, name, found)
    return selection.choose_from_folder(shown, found)


def ask(call: Callable[[], T], address: str) -> T:
    """Return what a call returns that asks the file system of an address, repeated where that may help.

    Raises ImageError.
    """
    try:
        return retry(call)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"can't read {hide_secrets(address)}: {describe_address_error(error, address)}") from error
