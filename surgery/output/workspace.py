"""The folder `.surgery` in an output folder, which exists while a run writes to it.

lock          held while the run lives; contains the number of its process
machine       since when the machine is running: after a power cut it is another time
images-J      the journal of worker J, with the records of its images: what `image_records` says
unfinished-N  the names of the files and folders of the batch that begins with image N, each written before it appears;
              removed when the batch is finished. Those that appear after that are in `unfinished-run`, or
              `unfinished-run-J` of a worker
stores        the names of the directories in which sinks keep files of their own, or `stores-J`
old/          the run that this one overwrites, until an image of this one is finished
state-T-K/    state K of what the sinks of process T have gathered, such as statistics
first.part/   the first images of the whole run, which a shard runs for what they decide
*.part, .tmp* unfinished files; safetensors names its own
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from threading import Lock as ThreadLock
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError, describe_os_error
from surgery.output.image_records import has_worker
from surgery.output.locks import Lock, LockHeldError
from surgery.output.machine import machine_start
from surgery.output.manifest_reader import ManifestReader, existing_files, is_file_or_link, listed_files
from surgery.output.noted_names import APPEND, append_name, read_names
from surgery.text import MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable

    from surgery.output.address import Place
    from surgery.output.uploads import Uploads

_OWN = re.compile(
    r"lock|machine|stores(-\w+)?|unfinished-(\d+|run(-\w+)?)|images-\w+|state-\w+-\d+|old|gone-\d+|.*\.part|\.tmp\w+"
)
RUN = -1
"""Stands for what belongs to no unfinished batch."""


_SHARED = ("place", "uploads", "own_files", "replaces_files", "_has_previous_run")
"""The attributes that a worker in another process has too."""


class Workspace:
    """The workspace of a run, and with it the right to write to its output folder.

    Raises OutputError if another run has that right, or if the folder can't be written.
    """

    def __init__(self, folder: Path, *, is_joined: bool = False) -> None:
        """With `is_joined`, another process of the run has that right, and this is the workspace of a worker."""
        self.folder = folder
        self.path = folder / WORK_FOLDER
        self.own_files: frozenset[str] = frozenset()
        """The files of the whole run that goes on, which may be written anew."""
        self.replaces_files = False
        """Whether files that are there, and of no run, are replaced: after a power cut their run may not be known."""
        self.is_recorded = False
        """Whether the manifest has all that the records say."""
        self.place: Place = folder
        """Where the run writes to: the folder, or the address whose staging folder it is."""
        self.uploads: Uploads | None = None
        """What takes finished batches to the address."""
        self._lock = Lock(self.path / "lock")
        self._old = self.path / "old"
        self._has_previous_run = False
        self._unfinished: dict[int, int] = {}
        """The open files with the names of unfinished files, by the number of the batch."""
        self._last_finished = RUN
        self._journal = ""
        """The journal of the worker that this is the workspace of; empty outside of one."""
        self._opening = ThreadLock()
        if not is_joined:
            self._acquire()

    def __reduce__(self) -> tuple[Callable[..., Workspace], tuple[Any, ...]]:
        return _join, (self.folder, {name: getattr(self, name) for name in _SHARED})

    def begin(self, journal: str, first: int) -> None:
        """Prepare for batches of a worker, which follow each other from image `first`."""
        self._journal = journal
        self._last_finished = first - 1

    def open_journal(self) -> None:
        """Begin a run. Raises OutputError if the folder can't be written."""
        try:
            (self.path / "machine").write_text(machine_start(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"can't write to {self.folder}: {describe_os_error(error)}") from error

    def note_file(self, name: str, batch: int) -> None:
        """Note that a file is about to appear while a batch is running. Raises OSError if the disk is full.

        The name of a folder ends with ``/.``.
        """
        batch = batch if batch > self._last_finished else RUN
        if (file := self._unfinished.get(batch)) is None:
            with self._opening:
                if (file := self._unfinished.get(batch)) is None:
                    file = self._unfinished[batch] = os.open(self._names_of(batch), APPEND, 0o666)
        append_name(file, name)

    def note_store(self, name: str) -> None:
        """Note that a store is about to appear. Raises OSError if the disk is full."""
        file = os.open(self.path / self._own_name("stores"), APPEND, 0o666)
        try:
            append_name(file, name)
        finally:
            os.close(file)

    def finish_batch(self, batch: int) -> None:
        """Forget the names of the files of a batch that is recorded, and discard the run that this one overwrites."""
        self._last_finished = max(batch, self._last_finished)
        if (file := self._unfinished.pop(batch, None)) is not None:
            os.close(file)
            self._names_of(batch).unlink(missing_ok=True)
        self.discard_previous_run()

    def count_waiting(self, images: int, done: int, done_bytes: int) -> int:
        """Return how many of `images` are on the local disk at once, if each takes what those that are done have taken.

        In a folder they all are.
        """
        return images if self.uploads is None else min(images, self.uploads.count_waiting(done, done_bytes))

    def stores(self) -> list[str]:
        """Return the names of the stores that were noted."""
        return list(dict.fromkeys(name for path in sorted(self.path.glob("stores*")) for name in read_names(path)))

    def has_machine_stopped(self) -> bool:
        """Return whether the machine was started again after the run that has left this workspace."""
        with suppress(OSError):
            return (self.path / "machine").read_text(encoding="utf-8") != machine_start()
        return False

    def set_previous_run_aside(self, inputs: Iterable[Path] = ()) -> None:
        """Move the run in the folder, as its manifest lists it, to where it can be restored from.

        Other files stay. Raises OutputError if one of `inputs` belongs to that run.
        """
        listed = [name for name, _ in existing_files(self.folder, ManifestReader(self.folder).all_files())]
        known = set(listed)
        root = Path(os.path.realpath(self.folder))
        for path in inputs:
            real = Path(os.path.realpath(path))
            if real.is_relative_to(root) and real.relative_to(root).as_posix() in known:
                raise OutputError(
                    f"{path} is a file of the run in {self.folder} that is to be overwritten; copy it to another folder"
                )
        self._has_previous_run = True
        try:
            self._old.mkdir()
            for name in (MANIFEST_FILE, *listed):  # the manifest first: a folder that has it is complete
                _move(self.folder / name, self._old / name)
        except OSError as error:
            raise OutputError(f"can't overwrite the run in {self.folder}: {describe_os_error(error)}") from error
        remove_empty_folders(self.folder, listed)

    def discard_previous_run(self) -> None:
        """Remove the run that was set aside, since an image of this run is finished."""
        if self._has_previous_run:
            self._has_previous_run = False
            with suppress(OSError):  # another process has done it
                gone = self.path / f"gone-{os.getpid()}"
                self._old.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def restore_previous_run(self) -> None:
        """Move the run that was set aside back, if it is complete."""
        if (self._old / MANIFEST_FILE).is_file():
            files = [path.relative_to(self._old).as_posix() for path in self._old.rglob("*") if is_file_or_link(path)]
            for name in (*(name for name in files if name != MANIFEST_FILE), MANIFEST_FILE):
                if not os.path.lexists(self.folder / name):
                    _move(self._old / name, self.folder / name)
        shutil.rmtree(self._old, ignore_errors=True)

    def remove_unfinished_files(self, finished: Container[int] = ()) -> None:
        """Remove the files and stores that were noted, and that no record and no manifest lists.

        `finished` are the numbers of the images that are recorded.
        """
        head = ManifestReader(self.folder) if (self.folder / MANIFEST_FILE).exists() else None
        stores = head.stores() if head is not None else {}
        listed = {*listed_files(head.head)} if head is not None else set()
        unfinished: dict[str, None] = {}
        for path in self.path.glob("unfinished-*"):
            number = path.name.partition("-")[2]
            if not (number.isdigit() and int(number) in finished):
                unfinished |= dict.fromkeys(name for name in read_names(path) if name not in listed)
        for _, path in existing_files(self.folder, unfinished):
            path.unlink(missing_ok=True)
        new_stores = [name for name in self.stores() if name not in stores]
        for name in new_stores:
            if not (self.folder / name).is_symlink():
                shutil.rmtree(self.folder / name, ignore_errors=True)
        remove_empty_folders(self.folder, [*unfinished, *(f"{name}/" for name in new_stores)])

    def remove_unfinished_batches(self, images: Collection[int]) -> None:
        """Remove the files of the batches that a lost worker has begun with one of these images, and not finished."""
        for path in [path for image in images if (path := self._names_of(image)).exists()]:
            names = [*read_names(path)]
            for _, file in existing_files(self.folder, names):
                file.unlink(missing_ok=True)
            remove_empty_folders(self.folder, names)
            path.unlink(missing_ok=True)
        if self.uploads is not None:
            self.uploads.run.remove_announced(images)

    def _names_of(self, batch: int) -> Path:
        return self.path / (self._own_name("unfinished-run") if batch == RUN else f"unfinished-{batch}")

    def _own_name(self, name: str) -> str:
        """Return the name of a file that no other worker writes to: some file systems mix up what several append."""
        return f"{name}-{self._journal}" if self._journal else name

    def _acquire(self) -> None:
        try:
            if self.path.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, f"{WORK_FOLDER} in it is a link")
            self._lock.acquire()
        except LockHeldError as error:
            raise self._explain_holder(error.holder) from error
        except OSError as error:
            raise OutputError(f"can't write to {self.folder}: {describe_os_error(error)}") from error
        if has_worker(self.path):
            self._lock.release()
            raise self._explain_holder("a worker of it lives on")

    def _explain_holder(self, holder: str) -> OutputError:
        return OutputError(
            f"another run writes to {self.folder} ({holder}); wait for its end, or write to another folder"
        )

    def has_leftovers(self) -> bool:
        """Return whether a run that was killed has left anything."""
        return any(path.name != "lock" and _OWN.fullmatch(path.name) for path in self.path.iterdir())

    def remove_contents(self) -> None:
        """Remove everything but the lock."""
        for path in [path for path in self.path.iterdir() if _OWN.fullmatch(path.name) and path.name != "lock"]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def close(self, *, keep: bool = False) -> None:
        """Give up the output folder. With `keep`, the files stay for recovery by the next run."""
        for file in self._unfinished.values():
            os.close(file)
        self._unfinished.clear()
        if not keep:
            self.remove_contents()
        self._lock.release()
        with suppress(OSError):  # files are kept, or another run has the lock now
            self.path.rmdir()


def _join(folder: Path, state: dict[str, Any]) -> Workspace:
    """Return the workspace of a run for a worker in another process."""
    workspace = Workspace(folder, is_joined=True)
    vars(workspace).update(state)
    return workspace


def _move(path: Path, to: Path) -> None:
    """Move a file, and make the folder that it goes to; do nothing if it doesn't exist."""
    try:
        path.rename(to)
    except FileNotFoundError:
        if os.path.lexists(path):
            to.parent.mkdir(parents=True, exist_ok=True)
            path.rename(to)


def remove_empty_folders(folder: Path, names: Iterable[str]) -> None:
    """Remove the folders that these files were in, if they are empty."""
    homes = {parent for name in names for parent in Path(f"{name}x").parents if parent.name}
    for home in sorted(homes, key=lambda home: -len(home.parts)):
        with suppress(OSError):
            (folder / home).rmdir()
