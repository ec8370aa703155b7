"""What is recorded of each image of a run, in its workspace, and the manifest that is put together of it at the end."""

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
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from surgery.output.workspace import Workspace

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class ImageRecords:
    """A file with a line for each image that one process has finished, and as much room again for the manifest.

    A line is there whole or not at all, also where the disk is full.
    """

    def __init__(self, workspace: Path, number: int, room: int = 0) -> None:
        self._folder = workspace.parent
        self._size = self._room = 0
        try:
            self._file = os.open(workspace / f"images-{number}", _NEW, 0o666)
            self._reserve = os.open(workspace / f"reserve-{number}", _NEW, 0o666)
            self._keep(room)
        except OSError as error:
            raise OutputError(f"can't write to {self._folder}: {describe_os_error(error)}") from error

    def add(self, number: int, files: int, entry: bytes) -> None:
        """Write the line of the `number`-th image, which has so many files. Raises OutputError."""
        line = b"%d\t%d\t%b\n" % (number, files, entry)
        try:
            self._keep(len(line))
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise OutputError(f"can't write to {self._folder}: {describe_os_error(error)}") from error
        self._size += len(line)

    def close(self) -> None:
        """Nothing more will be added."""
        os.close(self._file)
        os.close(self._reserve)

    def _keep(self, room: int) -> None:
        """Have so much more of the disk."""
        try:
            if not hasattr(os, "posix_fallocate"):
                raise OSError(errno.ENOSYS, "no room in advance")  # noqa: TRY301
            os.posix_fallocate(self._reserve, self._room, max(1, room))
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            os.lseek(self._reserve, self._room, os.SEEK_SET)
            if os.write(self._reserve, bytes(room)) < room:
                raise OSError(errno.ENOSPC, "No space left on device") from error
        self._room += room


def write_manifest(workspace: Workspace, content: dict[str, Any], files: Iterable[str]) -> int:
    """Put `manifest.json` together of `content`, the run's own `files`, and the records of all processes.

    Returns the number of files of the run, the manifest included. Raises OutputError.
    """
    own = list(files)
    stores = {name: found for name in own if (found := _contents(workspace.folder / name)) is not None}
    more: dict[str, Any] = {"files": own} | ({"stores": stores} if stores else {})
    head = json.dumps(encodable({**content, **more}), indent=1, allow_nan=False)
    part = workspace.path / f"{MANIFEST_FILE}.part"
    total = len(own) + 1
    for reserve in workspace.path.glob("reserve-*"):
        os.truncate(reserve, 0)  # to remove a file that is open gives nothing back
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
    """Whether an image was finished."""
    for path in workspace.glob("images-*"):
        with path.open("rb") as file:
            if next(_lines(file), None) is not None:
                return True
    return False


def describe_os_error(error: OSError) -> str:
    """What the system says, in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return (error.strerror or str(error)).lower()


def _lines(file: IO[bytes]) -> Iterator[tuple[int, int, bytes]]:
    """The number of each image, in order, how many files it has, and what was recorded of it."""
    for line in file:
        if line.endswith(b"\n"):  # another one was cut when its process was killed
            number, files, entry = line.rstrip(b"\n").split(b"\t", 2)
            yield int(number), int(files), entry


def _contents(store: Path) -> list[str] | None:
    """The files in the directory of a store; None for a file."""
    if not store.is_dir():
        return None
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
