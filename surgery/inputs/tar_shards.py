"""Tar shards, as WebDataset has them: archives whose members are inputs, and are read one by one."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import splitext
from typing import IO, TYPE_CHECKING

import numpy as np

from surgery.addresses import address_identity, hide_secrets, is_address, open_file_system, retry
from surgery.errors import ImageError
from surgery.inputs.input_files import FileGroup, StoredFile
from surgery.inputs.text_table import TextTable
from surgery.text import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


MAX_MEMBER_BYTES = 2**32
"""The largest member that is copied to the disk to be read."""
BLOCK = 512
"""The bytes of a block of an archive."""
_CHUNK = 2**24
"""Bytes that are copied at once."""
_READ_AHEAD = 2**20
"""Bytes that are asked for at once while the headers of a shard at an address are read."""


@dataclass(frozen=True, slots=True, eq=False)
class TarShard(FileGroup):
    """The members of a tar archive that a reader reads, in their order."""

    archive: str
    """Its path, or its address, which is not to be shown."""
    label: str
    """What its members are called by."""
    members: TextTable
    """Their names."""
    blocks: np.ndarray
    """Where the content of each begins, in blocks of 512 bytes."""
    sizes: np.ndarray
    """The bytes of each."""

    def __str__(self) -> str:
        return hide_secrets(self.archive)

    def __len__(self) -> int:
        return len(self.members)

    def item(self, number: int) -> TarMember:
        """Return the member with a number."""
        return TarMember(self, number)

    def path_of(self, number: int) -> str:
        """Return the path of a member in the archive."""
        return self.members.item(number).removeprefix("./")

    def local_files(self) -> Iterable[Path]:
        """Return the archive if it is a file of this machine."""
        return () if is_address(self.archive) else (Path(self.archive),)


@dataclass(frozen=True, slots=True, eq=False)
class TarMember(StoredFile):
    """A file in a tar archive. It is ``photos.tar/cats/0001.jpg``, and called ``photos-cats_0001`` in the output."""

    shard: TarShard
    number: int

    def __str__(self) -> str:
        return f"{self.shard}/{self._path}"

    @property
    def name(self) -> str:
        return PurePosixPath(self._path).name

    @property
    def label(self) -> str:
        path = self._path
        stem = splitext(path)[0]
        beside = (each for each in (self.number - 1, self.number + 1) if 0 <= each < len(self.shard))
        is_alone = all(splitext(self.shard.path_of(each))[0] != stem for each in beside)
        return f"{self.shard.label}-{stem if is_alone else path}"  # several images with one key differ in their suffix

    @property
    def identity(self) -> str:
        archive = self.shard.archive
        return f"{address_identity(archive) if is_address(archive) else archive}/{self._path}"

    @property
    def _path(self) -> str:
        return self.shard.path_of(self.number)

    def copy_to(self, path: Path) -> None:
        size = int(self.shard.sizes[self.number])
        if size > MAX_MEMBER_BYTES:
            raise ImageError(f"{self} has {format_bytes(size)}, and at most {format_bytes(MAX_MEMBER_BYTES)} are read")
        start = int(self.shard.blocks[self.number]) * BLOCK
        with path.open("r+b") as target:
            for begin in range(start, start + size, _CHUNK):
                end = min(begin + _CHUNK, start + size)
                content = read_part(self.shard.archive, begin, end)
                if len(content) < end - begin:
                    raise ImageError(f"{self.shard} is shorter than it was when its members were listed")
                target.write(content)


@contextmanager
def open_archive(archive: str) -> Iterator[IO[bytes]]:
    """Yield a tar archive, opened for reading."""
    if not is_address(archive):
        with open(archive, "rb") as file:  # noqa: PTH123 - as fast as can be
            yield file
        return
    file_system, place = open_file_system(archive)
    with file_system.open(place, "rb", block_size=_READ_AHEAD) as file:
        yield file


def read_part(archive: str, begin: int, end: int) -> bytes:
    """Return the bytes of a tar archive from `begin` to `end`, or to the end of the archive if that comes first.

    Raises ImageError if its server sends no parts of files, and what the file system raises.
    """
    if not is_address(archive):
        with open_archive(archive) as file:
            file.seek(begin)
            return file.read(end - begin)

    def fetch() -> bytes:
        file_system, place = open_file_system(archive)
        content: bytes = file_system.cat_file(place, start=begin, end=end)
        return content

    content = retry(fetch)
    if len(content) > end - begin:
        raise ImageError(f"the server of {hide_secrets(archive)} sends no parts of files; copy it to this machine")
    return content
