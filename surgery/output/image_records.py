"""The records of finished images in the workspace of a run, from which the manifest is made.

Each worker has a file, a journal, which it locks for as long as it lives. A finished batch adds a line for each image
(its number, how many files it has, and its entry in the manifest), a line for what belongs to the batch as a whole, and
at last a line with its tally. A batch without that last line is not finished. Batches can be recorded together: then
the tallies of all but the last begin with a plus sign, and none of them is finished without the last.
"""

from __future__ import annotations

import heapq
import json
import os
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from surgery.errors import OutputError, describe_os_error
from surgery.output.json_values import as_json
from surgery.output.locks import LOCK_TIMEOUT, hold_while_open, is_held

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
SYNC_INTERVAL = 0.2
"""The most seconds of finished batches that a power cut can lose: the disk is asked so often to keep what it got."""


class ImageRecord(NamedTuple):
    """What is recorded of one finished image, or of its batch."""

    number: int
    """That of the image; of a batch, that of its first image."""
    files: int
    """How many files it has."""
    entry: bytes
    """Its entry in the manifest, as JSON."""


class RecordedBatch(NamedTuple):
    """The records of a batch before they are written."""

    images: bytes
    """The lines of its images."""
    tally: dict[str, Any]

    def content(self, *, is_last: bool = True, states: dict[str, int] | None = None) -> bytes:
        """Return what a file has of it, as the last of batches that are recorded together, or as another."""
        tally = {**self.tally, "states": states} if states else self.tally
        return b"".join([self.images, b"\t" if is_last else b"\t+", as_json(tally), b"\n"])


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """What is recorded of one finished batch."""

    number: int
    """That of its first image; -1 if it has none."""
    tally: dict[str, Any]
    """What it adds to the tally of the run."""
    lines: tuple[bytes, ...]
    """Those of its images, as they are in the file."""
    folder: Path
    """That of the run."""

    @property
    def images(self) -> Iterator[ImageRecord]:
        """Yield the records of its images. Raises OutputError for one that is damaged."""
        try:
            for line in self.lines:
                number, files, entry = line.rstrip(b"\n").split(b"\t", 2)
                yield ImageRecord(int(number), int(files), entry)
        except ValueError as error:
            raise _explain_damage(self.folder) from error


class ImageRecords:
    """The records of one worker. Raises OutputError if the file can't be made."""

    def __init__(self, workspace: Path, journal: str) -> None:
        """`journal` names the file: no other worker has it, and batches are added in the order of their images."""
        self._folder = workspace.parent
        self._size = 0
        self._synced = time.monotonic()
        self._lines: list[bytes] = []
        try:
            self._file = os.open(journal_path(workspace, journal), _NEW, 0o666)
            hold_while_open(self._file)
            try:
                sync_folder(workspace)
            except OSError:
                self.close()
                raise
        except OSError as error:
            raise OutputError(f"can't write to {self._folder}: {describe_os_error(error)}") from error

    def add(self, record: ImageRecord) -> None:
        """Add the record of an image to those of its batch."""
        self._lines.append(b"%d\t%d\t%b\n" % record)

    def take_batch(self, tally: dict[str, Any]) -> RecordedBatch:
        """Return the records that were added, of one batch, with its tally. `commit` writes them."""
        images = b"".join(self._lines)
        self._lines.clear()
        return RecordedBatch(images, tally)

    def commit(self, *batches: RecordedBatch, states: dict[str, int] | None = None) -> bytes:
        """Write the records of some batches, completely or not at all, and return what was written.

        With `states`, what sinks have gathered of all recorded images is in them, and the disk keeps the records when
        this returns. Raises OutputError if the disk is full.
        """
        *others, last = batches
        content = b"".join([*(batch.content(is_last=False) for batch in others), last.content(states=states)])
        try:
            remaining = memoryview(content)
            while remaining:
                remaining = remaining[os.write(self._file, remaining) :]
            if states or time.monotonic() - self._synced > SYNC_INTERVAL:
                self._sync()
        except OSError as error:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise OutputError(f"can't write to {self._folder}: {describe_os_error(error)}") from error
        self._size += len(content)
        return content

    def close(self) -> None:
        """Close the file, to which nothing more will be added."""
        os.close(self._file)

    def _sync(self) -> None:
        """Have the disk keep the file. Takes some milliseconds, and lets other threads run."""
        getattr(os, "fdatasync", os.fsync)(self._file)
        self._synced = time.monotonic()


def journal_path(workspace: Path, journal: str) -> Path:
    """Return the file of a journal."""
    return workspace / f"images-{journal}"


def has_finished_images(workspace: Path) -> bool:
    """Return whether a run has finished a batch, or what it has recorded is damaged."""
    with closing(read_batches(workspace)) as batches:
        try:
            return next(batches, None) is not None
        except OutputError:
            return True


def read_batches(
    workspace: Path, is_kept: Callable[[BatchRecord], bool] = lambda _: True
) -> Generator[BatchRecord, None, None]:
    """Yield the finished batches of all workers in the order of their images.

    Raises OSError, and OutputError for records that are damaged.

    Of a batch that two workers have finished, since one of them was taken for lost, the first is yielded.
    """
    last = None
    with ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in sorted(workspace.glob("images-*"))]
        for batch in heapq.merge(
            *(_parse_batches(file, workspace.parent) for file in opened), key=attrgetter("number")
        ):
            if batch.number != last and is_kept(batch):
                yield batch
            last = batch.number


def has_worker(workspace: Path) -> bool:
    """Return whether a worker of a run that was killed lives on. Waits a moment for those that are about to end."""
    end = time.monotonic() + LOCK_TIMEOUT
    for path in workspace.glob("images-*"):
        while is_held(path):
            if time.monotonic() > end:
                return True
            time.sleep(0.02)
    return False


def read_journal(workspace: Path, journal: str) -> set[int]:
    """Return the numbers of the images that a worker has finished, by its journal. Raises OSError."""
    try:
        with journal_path(workspace, journal).open("rb") as file:
            return {image.number for batch in _parse_batches(file, workspace.parent) for image in batch.images}
    except FileNotFoundError:
        return set()


def split_batches(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the records of batches in the content of a file of records: of each, or of those recorded together.

    They follow the number of the first batch and that of the last. Batches at the end that were cut are left out.
    """
    records = b""
    numbers: list[int] = []
    is_first = True
    for line in content.splitlines(keepends=True):
        records += line
        if is_first:
            number = line.partition(b"\t")[0]
            numbers.append(int(number) if number.isdigit() else -1)
        is_first = line.startswith(b"\t")
        if is_first and not line.startswith(b"\t+") and line.endswith(b"\n"):
            yield numbers[0], numbers[-1], records
            records, numbers = b"", []


def sync_file(path: Path) -> None:
    """Have the disk keep the content of a file. Raises OSError."""
    file = os.open(path, os.O_RDWR)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder. Without effect where a folder can't be opened. Raises OSError."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _explain_damage(folder: Path) -> OutputError:
    return OutputError(
        f"what a run has recorded in {folder} is damaged, so that it can't go on; write to another folder"
    )


def _parse_batches(file: IO[bytes], folder: Path) -> Iterator[BatchRecord]:
    """Yield each complete batch of a run in a folder. Raises OutputError for one that is damaged."""
    lines: list[bytes] = []
    together: list[BatchRecord] = []
    for line in file:
        if not line.endswith(b"\n"):  # cut when its process was killed
            return
        if line.startswith(b"\t"):
            try:
                number = int(lines[0].partition(b"\t")[0]) if lines else -1
                tally = json.loads(line.removeprefix(b"\t+"))
            except (ValueError, RecursionError) as error:
                raise _explain_damage(folder) from error
            together.append(BatchRecord(number, tally, tuple(lines), folder))
            lines = []
            if not line.startswith(b"\t+"):
                yield from together
                together.clear()
        else:
            lines.append(line)
