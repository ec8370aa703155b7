"""The folder `.surgery` in an output folder, for as long as a run goes on: its lock, its journal, and its parts.

lock        held while the run lives; says which process it is
journal     each file and store of the run, by name, written before it appears: what a run that was killed has left
head.json   what the manifest begins with
images-N    a line for each image that is finished, of the N-th process: the number of the image, how many files it
            has, and what the manifest says of it
reserve-N   room on the disk for those lines in the manifest
old/        the run that this one replaces, until an image of this one is finished
*.part      files that are being written
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

from surgery.errors import OutputError
from surgery.output.locks import Lock, LockHeldError
from surgery.output.manifest_reader import ManifestReader, existing_files, is_file_or_link
from surgery.text import MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEAD = "head.json"
_OWN = re.compile(r"lock|journal|head\.json|(images|reserve)-\d+|old|gone-\d+|.*\.part")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Workspace:
    """A folder that one run has to itself, and what it has written there. Raises OutputError where another has it."""

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
            raise OutputError(f"can't write to {folder}: {(error.strerror or str(error)).lower()}") from error
        self._old = self.path / "old"
        self._replaces = False
        self._journal = -1

    def open_journal(self) -> None:
        """Keep the journal from now on. Raises OutputError."""
        try:
            self._journal = os.open(self.path / "journal", _APPEND, 0o666)
        except OSError as error:
            raise OutputError(f"can't write to {self.folder}: {(error.strerror or str(error)).lower()}") from error

    def append_to_journal(self, name: str) -> None:
        """Write down that a file, or with a slash at the end a store, is about to appear. Raises OSError.

        A folder that was made ends with ``/.``.
        """
        entry = f'\n"{name}"'.encode()
        if os.write(self._journal, entry) < len(entry):
            raise OSError(errno.ENOSPC, "No space left on device")

    def journal_entries(self) -> Iterator[str]:
        """What the journal has, whoever wrote it."""
        with suppress(FileNotFoundError), (self.path / "journal").open("rb") as journal:
            for line in journal:
                with suppress(ValueError):  # one that was cut
                    if isinstance(name := json.loads(line), str):
                        yield name

    def set_previous_run_aside(self, inputs: Iterable[Path] = ()) -> None:
        """Move the run that is in the folder away, by its manifest, until this one has finished an image.

        Files that it does not list stay where they are. Raises OutputError where an input is one of its files.
        """
        listed = [name for name, _ in existing_files(self.folder, ManifestReader(self.folder).all_files())]
        known = set(listed)
        root = Path(os.path.realpath(self.folder))
        for path in inputs:
            real = Path(os.path.realpath(path))
            if real.is_relative_to(root) and real.relative_to(root).as_posix() in known:
                raise OutputError(f"{path} is a file of the run in {self.folder} that is to be overwritten; copy it")
        self._replaces = True
        try:
            self._old.mkdir()
            for name in (MANIFEST_FILE, *listed):  # the manifest first: where it is, nothing is missing
                _move(self.folder / name, self._old / name)
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise OutputError(f"can't overwrite the run in {self.folder}: {said}") from error
        _remove_empty(self.folder, listed)

    def discard_previous_run(self) -> None:
        """An image is finished: the run that was set aside does not come back."""
        if self._replaces:
            self._replaces = False
            with suppress(OSError):  # another job was first
                gone = self.path / f"gone-{os.getpid()}"
                self._old.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)

    def restore_previous_run(self) -> None:
        """Put back the run that was set aside, if it is still whole."""
        if (self._old / MANIFEST_FILE).is_file():
            there = [path.relative_to(self._old).as_posix() for path in self._old.rglob("*") if is_file_or_link(path)]
            for name in (*(name for name in there if name != MANIFEST_FILE), MANIFEST_FILE):
                if not os.path.lexists(self.folder / name):
                    _move(self._old / name, self.folder / name)
        shutil.rmtree(self._old, ignore_errors=True)

    def remove_unlisted_files(self) -> list[str]:
        """Remove what the journal has and the manifest has not, with the folders that are empty then."""
        listed: set[str] = set()
        if (self.folder / MANIFEST_FILE).exists():
            manifest = ManifestReader(self.folder)
            listed = {*manifest.all_files(), *(f"{name}/" for name in manifest.stores())}
        gone = [name for name in dict.fromkeys(self.journal_entries()) if name not in listed]
        stores = [name for name in gone if name.endswith("/")]
        files = [(name, path) for name, path in existing_files(self.folder, gone)]
        for _, path in files:
            path.unlink(missing_ok=True)
        for name in stores:
            if not (self.folder / name).is_symlink():
                shutil.rmtree(self.folder / name, ignore_errors=True)
        _remove_empty(self.folder, gone)
        return [name for name, _ in files] + stores

    def has_leftovers(self) -> bool:
        """Whether there is anything of a run that did not come to its end."""
        return any(path.name != "lock" and _OWN.fullmatch(path.name) for path in self.path.iterdir())

    def remove_contents(self) -> None:
        """Remove all but the lock."""
        for path in [path for path in self.path.iterdir() if _OWN.fullmatch(path.name) and path.name != "lock"]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def close(self, *, keep: bool = False) -> None:
        """Leave the folder to others. What is not to be kept for `surgery.output.recovery` is removed."""
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1
        if not keep:
            self.remove_contents()
        self._lock.release()
        with suppress(OSError):  # who waited for the lock has it now, or something is to be kept
            self.path.rmdir()


def _move(path: Path, to: Path) -> None:
    try:
        path.rename(to)
    except FileNotFoundError:
        if os.path.lexists(path):
            to.parent.mkdir(parents=True, exist_ok=True)
            path.rename(to)


def _remove_empty(folder: Path, names: Iterable[str]) -> None:
    """Remove the folders in which these files were, as far as nothing else is in them."""
    homes = {parent for name in names for parent in Path(f"{name}x").parents if parent.name}
    for home in sorted(homes, key=lambda home: -len(home.parts)):
        with suppress(OSError):
            (folder / home).rmdir()
