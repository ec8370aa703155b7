"""The headers of tar shards: which of their members are inputs."""

from __future__ import annotations

import tarfile
from array import array
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from surgery.addresses import hide_secrets, is_address
from surgery.errors import ImageError, describe_os_error
from surgery.inputs.file_selection import name_of
from surgery.inputs.notes import add_note
from surgery.inputs.remote_files import ask
from surgery.inputs.tar_shards import BLOCK, TarShard, open_archive, read_part
from surgery.inputs.text_table import TextTable
from surgery.text import abbreviate_list, format_count

if TYPE_CHECKING:
    from surgery.inputs.file_selection import FileSelection

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
_EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
"""The types of headers that extend the next one."""
_MAX_EXTENSION_BYTES = 2**20
_MAX_KINDS = 100
_DAMAGES = (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError)
"""What tarfile raises for damaged archives."""


def open_shard(archive: str, selection: FileSelection) -> TarShard:
    """Return the members of a tar archive that a selection chooses, without reading their content.

    Links, devices, hidden files and other kinds are left out, and a note says so. Raises ImageError for a file that is
    no tar archive, is compressed, cut short, or has no member that is chosen.
    """
    if is_address(archive):
        return ask(lambda: _read_headers(archive, selection), archive)
    try:
        return _read_headers(archive, selection)
    except OSError as error:
        raise ImageError(f"can't read the shard {archive}: {describe_os_error(error)}") from error


class _Header(tarfile.TarInfo):
    """A header that is not trusted: in older versions of Python, one with a negative size is read for ever."""

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.ReadError("negative size")
        return super()._block(count)  # type: ignore[misc, no-any-return]

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.type in _EXTENSIONS and not 0 <= self.size <= _MAX_EXTENSION_BYTES:
            raise tarfile.ReadError("a name that is too long")
        return super()._proc_member(tar)  # type: ignore[misc]


class _Index:
    """What is known of the members of a tar archive while its headers are read."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []
        self._blocks, self._sizes = array("q"), array("q")
        self._others: dict[str, str] = {}
        """A name for each suffix of members that are left out."""
        self._has_links = False

    def read(self, file: IO[bytes], selection: FileSelection) -> None:
        """Read all headers. Raises TarError and others for an archive that is damaged."""
        with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header, encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined] # which would keep a kilobyte for each
                self.count += 1
                self._add(member, selection)
            file.seek(tar.offset)
            if any(file.read(BLOCK)):
                raise tarfile.ReadError("no header")

    def _add(self, member: tarfile.TarInfo, selection: FileSelection) -> None:
        path = PurePosixPath(member.name)
        if member.isdir():
            return
        if not member.isreg() or member.issparse():
            self._has_links = True
        elif selection.takes(path.name):
            self._names.append(member.name)
            self._blocks.append(member.offset_data // BLOCK)
            self._sizes.append(member.size)
        elif len(self._others) < _MAX_KINDS:
            self._others.setdefault(path.suffix or path.name, path.name)

    def finish(self, archive: str, selection: FileSelection) -> TarShard:
        """Return the members that were chosen, and note what was left out. Raises ImageError if none was chosen."""
        shown = hide_secrets(archive)
        if not self._names:
            raise ImageError(selection.explain_none(f"the shard {shown}", [*self._others.values()]))
        if self._others:
            add_note(shown, f"members of other kinds are left out: {abbreviate_list(sorted(self._others), 4)}")
        if self._has_links:
            add_note(shown, "links and devices in it are left out")
        label = PurePosixPath(name_of(archive)).stem
        return TarShard(archive, label, TextTable.of(self._names), _smallest(self._blocks), _smallest(self._sizes))


def _read_headers(archive: str, selection: FileSelection) -> TarShard:
    start = read_part(archive, 0, BLOCK)
    for sign, kind in _COMPRESSED.items():
        if start.startswith(sign):
            raise ImageError(
                f"{hide_secrets(archive)} is compressed with {kind}, and its members can't be read one by one; unpack "
                "it to a plain .tar"
            )
    index = _Index()
    with open_archive(archive) as file:
        try:
            index.read(file, selection)
        except _DAMAGES as error:
            if not index.count:
                raise ImageError(f"{hide_secrets(archive)} is not a tar archive") from error
            raise ImageError(
                f"{hide_secrets(archive)} is cut short or damaged after {format_count(index.count, 'member')}"
            ) from error
    return index.finish(archive, selection)


def _smallest(values: array[int]) -> np.ndarray:
    """Return numbers in as few bytes as hold the greatest."""
    return np.array(values, np.min_scalar_type(max(values)))
