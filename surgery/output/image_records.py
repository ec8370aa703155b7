"""The records of finished images in the workspace of a run, from which the manifest is made."""

from __future__ import annotations

import errno
import heapq
import os
from contextlib import ExitStack, closing
from operator import itemgetter
from typing import IO, TYPE_CHECKING

from surgery.errors import OutputError, describe_os_error

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class ImageRecords:
    """The records of one process: a file with a line for each finished image.

    As many bytes again are reserved on the disk for the manifest. A line is written completely or not at all, even if
    the disk is full. Raises OutputError if the files can't be made.
    """

    def __init__(self, workspace: Path, number: int, reserved_bytes: int = 0) -> None:
        """`number` is that of the process. `reserved_bytes` are for the manifest's head."""
        self._folder = workspace.parent
        self._size = self._reserved_bytes = 0
        try:
            self._file = os.open(workspace / f"images-{number}", _NEW, 0o666)
            self._reserve_file = os.open(workspace / f"reserve-{number}", _NEW, 0o666)
            self._reserve_disk(reserved_bytes)
        except OSError as error:
            raise OutputError(f"can't write to {self._folder}: {describe_os_error(error)}") from error

    def add(self, number: int, files: int, entry: bytes) -> None:
        """Append the record of an image: its number, how many files it has, and its entry in the manifest as JSON.

        Raises OutputError if the disk is full.
        """
        line = b"%d\t%d\t%b\n" % (number, files, entry)
        try:
            self._reserve_disk(len(line))
            remaining = memoryview(line)
            while remaining:
                remaining = remaining[os.write(self._file, remaining) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise OutputError(f"can't write to {self._folder}: {describe_os_error(error)}") from error
        self._size += len(line)

    def close(self) -> None:
        """Close the files, to which nothing more will be added."""
        os.close(self._file)
        os.close(self._reserve_file)

    def _reserve_disk(self, count: int) -> None:
        """Reserve more bytes on the disk. Raises OSError if it is full."""
        try:
            if not hasattr(os, "posix_fallocate"):
                raise OSError(errno.ENOSYS, "no posix_fallocate")  # noqa: TRY301
            os.posix_fallocate(self._reserve_file, self._reserved_bytes, max(1, count))
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            os.lseek(self._reserve_file, self._reserved_bytes, os.SEEK_SET)
            if os.write(self._reserve_file, bytes(count)) < count:
                raise OSError(errno.ENOSPC, "No space left on device") from error
        self._reserved_bytes += count


def has_finished_images(workspace: Path) -> bool:
    """Return whether a run has finished an image."""
    with closing(read_records(workspace)) as records:
        return next(records, None) is not None


def read_records(workspace: Path) -> Generator[tuple[int, int, bytes], None, None]:
    """Yield the number of each image in order, the number of its files, and its entry in the manifest as JSON.

    Raises OSError if a file can't be read.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in sorted(workspace.glob("images-*"))]
        yield from heapq.merge(*map(_parse_lines, opened), key=itemgetter(0))


def release_reserved_disk(workspace: Path) -> None:
    """Free the bytes that were reserved for the manifest. Raises OSError."""
    for reserve in workspace.glob("reserve-*"):
        os.truncate(reserve, 0)  # removing an open file would not free the disk


def _parse_lines(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the image number, the number of files and the entry of each complete line."""
    for line in file:
        if line.endswith(b"\n"):  # a line without it was cut when its process was killed
            number, files, entry = line.rstrip(b"\n").split(b"\t", 2)
            yield int(number), int(files), entry
