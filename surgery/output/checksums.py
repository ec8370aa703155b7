"""Checksums of files: CRC-32, as in ZIP archives and PNG files.

A checksum finds what a disk, a copy or an editor has changed. It is no signature: who can write a file of a run can
write its manifest too.
"""

from __future__ import annotations

import os
import zlib
from threading import local
from typing import TYPE_CHECKING, NamedTuple

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_crc32 = zlib.crc32 if isal_zlib is None else isal_zlib.crc32
_BUFFER_BYTES = 1 << 20


class _Buffer(local):
    """Memory to read into, one for each thread."""

    def __init__(self) -> None:
        self.bytes = memoryview(bytearray(_BUFFER_BYTES))


_buffer = _Buffer()


class FileDigest(NamedTuple):
    """What is known about the bytes of a file."""

    crc32: str
    """The CRC-32 as 8 hexadecimal digits."""
    size: int
    """In bytes."""


def digest_of(buffers: Iterable[bytes | memoryview]) -> FileDigest:
    """Return the digest of a file that consists of buffers, in their order."""
    total = size = 0
    for buffer in buffers:
        total = _crc32(buffer, total)
        size += len(buffer)
    return FileDigest(f"{total:08x}", size)


def digest_file(path: Path) -> FileDigest:
    """Return the digest of a file. Raises OSError if it can't be read."""
    return FileDigest(checksum(path), os.stat(path).st_size)  # noqa: PTH116 - faster than a Path


def checksum_of(content: bytes) -> str:
    """Return the CRC-32 of the content of a file as 8 hexadecimal digits."""
    return f"{_crc32(content):08x}"


def checksum(path: Path) -> str:
    """Return the CRC-32 of a file as 8 hexadecimal digits. Raises OSError if it can't be read."""
    total, buffer = 0, _buffer.bytes
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            total = _crc32(buffer[:count], total)
    return f"{total:08x}"
