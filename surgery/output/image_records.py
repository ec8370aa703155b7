"""The records of finished images in the workspace of a run, and the manifest that is made from them."""

from __future__ import annotations

import errno
import heapq
import json
import os
from contextlib import ExitStack, suppress
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.output.json_values import encodable
from surgery.output.manifest_reader import IMAGES_LINE
from surgery.output.os_errors import describe_os_error
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from surgery.output.workspace import Workspace

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


def write_manifest(workspace: Workspace, content: dict[str, Any], files: Iterable[str]) -> int:
    """Write `manifest.json` from `content`, `files` of the whole run, and the image records of all processes.

    Return the number of files of the run, the manifest included. Raises OutputError if it can't be written.
    """
    run_files = list(files)
    contents = {name: _store_contents(workspace.folder / name) for name in run_files}
    stores = {name: names for name, names in contents.items() if names is not None}
    more: dict[str, Any] = {"files": run_files} | ({"stores": stores} if stores else {})
    head = json.dumps(encodable({**content, **more}), indent=1, allow_nan=False)
    part = workspace.path / f"{MANIFEST_FILE}.part"
    total = len(run_files) + 1
    for reserve in workspace.path.glob("reserve-*"):
        os.truncate(reserve, 0)  # removing an open file would not free the disk
    try:
        with ExitStack() as stack, part.open("wb") as file:
            file.write(head.removesuffix("\n}").encode() + b",\n" + IMAGES_LINE)
            opened = [stack.enter_context(path.open("rb")) for path in sorted(workspace.path.glob("images-*"))]
            lines = heapq.merge(*map(_lines, opened), key=itemgetter(0))
            for place, (_, count, line) in enumerate(lines):
                file.write((b",\n" if place else b"\n") + line)
                total += count
            file.write(b"\n ]\n}\n")
        part.replace(workspace.folder / MANIFEST_FILE)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"can't write {workspace.folder / MANIFEST_FILE}: {describe_os_error(error)}") from error
    return total


def has_finished_images(workspace: Path) -> bool:
    """Return whether a run has finished an image."""
    for path in workspace.glob("images-*"):
        with path.open("rb") as file:
            if next(_lines(file), None) is not None:
                return True
    return False


def _lines(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number of each image in order, the number of its files, and its entry in the manifest."""
    for line in file:
        if line.endswith(b"\n"):  # a line without it was cut when its process was killed
            number, files, entry = line.rstrip(b"\n").split(b"\t", 2)
            yield int(number), int(files), entry


def _store_contents(store: Path) -> list[str] | None:
    """Return the files in the directory of a store, relative to it; None for a path that is a file."""
    if not store.is_dir():
        return None
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
