"""The folder `.surgery` in an output folder, which exists while a run writes to it.

lock        held while the run lives; contains the number of its process
journal     the name of each file, store and folder of the run, written before it appears; recovery reads it
head.json   the beginning of the manifest
images-N    the records of process N, a line for each finished image: its number, how many files it has, and its entry
            in the manifest
reserve-N   disk space for those entries in the manifest
old/        the run that this one overwrites, until an image of this one is finished
*.part      unfinished files
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import OutputError, describe_os_error
from surgery.output.locks import Lock, LockHeldError
from surgery.output.manifest_reader import ManifestReader, existing_files, is_file_or_link
from surgery.text import MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEAD = "head.json"
_OWN = re.compile(r"lock|journal|head\.json|(images|reserve)-\d+|old|gone-\d+|.*\.part")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Workspace:
    """The workspace of a run, and with it the right to write to its output folder.

    Raises OutputError if another run has that right, or if the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / WORK_FOLDER
        self._lock = Lock(self.path / "lock")
        try:
            if self.path.is_symlink():
                raise NotADirectoryError(errno.ENOTDIR, f"{WORK_FOLDER} in it is a link")
            self._lock.acquire()
        except LockHeldError as error:
            raise OutputError(
                f"another run writes to {folder} ({error.holder}); wait for its end, or write to another folder"
            ) from error
        except OSError as error:
            raise OutputError(f"can't write to {folder}: {describe_os_error(error)}") from error
        self._old = self.path / "old"
        self._has_previous_run = False
        self._journal = -1

    def open_journal(self) -> None:
        """Open the journal. Raises OutputError if it can't be written."""
        try:
            self._journal = os.open(self.path / "journal", _APPEND, 0o666)
        except OSError as error:
            raise OutputError(f"can't write to {self.folder}: {describe_os_error(error)}") from error

    def append_to_journal(self, name: str) -> None:
        """Record that a file is about to appear. Raises OSError if the disk is full.

        The name of a store ends with ``/``, that of a folder with ``/.``.
        """
        entry = f'\n"{name}"'.encode()
        if os.write(self._journal, entry) < len(entry):
            raise OSError(errno.ENOSPC, "No space left on device")

    def journal_entries(self) -> Iterator[str]:
        """Yield the names in the journal, whichever process wrote them."""
        with suppress(FileNotFoundError), (self.path / "journal").open("rb") as journal:
            for line in journal:
                with suppress(ValueError):  # a line that was cut when its process was killed
                    if isinstance(name := json.loads(line), str):
                        yield name

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

    def remove_unlisted_files(self) -> list[str]:
        """Remove files and stores that are in the journal and not in the manifest; return their names."""
        listed: set[str] = set()
        if (self.folder / MANIFEST_FILE).exists():
            manifest = ManifestReader(self.folder)
            listed = {*manifest.all_files(), *(f"{name}/" for name in manifest.stores())}
        unlisted = [name for name in dict.fromkeys(self.journal_entries()) if name not in listed]
        stores = [name for name in unlisted if name.endswith("/")]
        files = [(name, path) for name, path in existing_files(self.folder, unlisted)]
        for _, path in files:
            path.unlink(missing_ok=True)
        for name in stores:
            if not (self.folder / name).is_symlink():
                shutil.rmtree(self.folder / name, ignore_errors=True)
        remove_empty_folders(self.folder, unlisted)
        return [name for name, _ in files] + stores

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
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1
        if not keep:
            self.remove_contents()
        self._lock.release()
        with suppress(OSError):  # files are kept, or another run has the lock now
            self.path.rmdir()


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
