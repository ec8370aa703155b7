"""A run that writes to an address: it works in a staging folder on the local disk, as any run does in its folder.

What is finished is taken to the address by `Uploads`, batch by batch. Everything that the next run has to know is at
the address, so that it can go on on another machine, and the staging folder is removed. In `.surgery` there:

lock            which run writes, as `RemoteClaim` says
records-*       the records of finished batches that the manifest does not list, as in a journal
unfinished-N    the names of the files of batch N, each written before they are
unfinished-run  those of the files that belong to no batch
unfinished-common-*  those of files of the whole run that the batches need
old.json        the manifest of a run that is being removed, since another one overwrites it
new.json        a manifest before it has its name
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error
from surgery.output.image_records import split_batches
from surgery.output.json_values import as_json
from surgery.output.locks import Lock
from surgery.output.manifest_reader import ManifestReader, is_inside
from surgery.output.remote_folder import REMOVED_AT_ONCE
from surgery.text import MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from surgery.output.remote_claim import RemoteClaim
    from surgery.output.remote_folder import RemoteFolder

RECORDS, UNFINISHED = "records-", "unfinished-"
_OLD, _NEW, _RUN_FILES = f"{WORK_FOLDER}/old.json", f"{WORK_FOLDER}/new.json", f"{WORK_FOLDER}/{UNFINISHED}run"
_FILES_AT_ONCE = 16


@dataclass(slots=True)
class RemoteRun:
    """What all processes of a run do at its address. It can be pickled for those that see the staging folder."""

    remote: RemoteFolder
    claim: RemoteClaim
    folder: Path
    """The staging folder."""
    occupied: frozenset[str]
    """The names at the top of the address that were there before."""
    own: frozenset[str] = frozenset()
    """Those of them in which the files are of this run, which goes on with an earlier one."""
    has_begun: bool = False
    """Whether the manifest of this run is at the address."""

    def begin(self) -> None:
        """Write the manifest to the address, once a batch is finished, and remove the run that this one overwrites."""
        if self.has_begun:
            return
        lock = Lock(self.folder.parent / "begin")
        lock.acquire(float("inf"))  # of all processes of the run, the first does it
        try:
            if not self._mark.exists():
                old = self.folder / WORK_FOLDER / "old" / MANIFEST_FILE
                if old.exists():
                    self._put_whole(old, _OLD)
                    remove_old_run(self.remote, self.folder.parent)
                self.write_manifest()
                self.mark_begun()
        finally:
            lock.release()
        self.has_begun = True

    def mark_begun(self) -> None:
        """Have no process of this run write its first manifest: that of a run that goes on is at the address."""
        self._mark.touch()

    @property
    def _mark(self) -> Path:
        return self.folder.parent / "begun"

    def local_file(self, name: str) -> Path:
        """Return the path of a file in the staging folder."""
        return self.folder / name

    def announce(self, number: int, names: Sequence[str]) -> None:
        """Write the names of the files of a batch to the address, before the files.

        Raises OutputError if a file of one of these names is there that is of no run.
        """
        self._check_free(names)
        self.remote.write(f"{WORK_FOLDER}/{UNFINISHED}{number}", as_json(names))

    def forget_announced(self, numbers: Iterable[int]) -> None:
        """Remove the names of the files of batches that are secured."""
        self.remote.remove(f"{WORK_FOLDER}/{UNFINISHED}{number}" for number in numbers)

    def write_file(self, name: str) -> None:
        """Take a complete file to the address, and remove it from the staging folder."""
        file = self.local_file(name)
        self.remote.put(file, name)
        file.unlink(missing_ok=True)

    def write_common_files(self, names: Sequence[str]) -> None:
        """Write files of the whole run, which stay in the staging folder and may be written by several processes.

        Raises OutputError if a file of one of these names is there with another content.
        """
        missing = [name for name in names if not self._is_there(name)]
        if missing:
            self.remote.write(f"{WORK_FOLDER}/{UNFINISHED}common-{uuid4().hex}", as_json(missing))
        for name in missing:
            self.remote.put(self.local_file(name), name)

    def had_file(self, name: str) -> bool:
        """Return whether a file was at the address before this run began."""
        return name.partition("/")[0] in self.occupied and self.remote.exists(name)

    def remove_local_folders(self, names: Iterable[str], folders: Iterable[str]) -> None:
        """Remove the folders of images, and those in them in which these files were, from the staging folder."""
        roots = {*folders}
        homes = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents}
        own = {home for home in homes if home in roots or any(home.startswith(f"{root}/") for root in roots)}
        for home in sorted(own, key=len, reverse=True):
            with suppress(OSError):  # not empty
                self.local_file(home).rmdir()

    def write_records(self, name: str, content: bytes) -> None:
        """Write records of finished batches to the address."""
        self.claim.renew()
        self.remote.write(f"{WORK_FOLDER}/{RECORDS}{name}", content)

    def write_manifest(self) -> None:
        """Write the manifest in the staging folder to the address."""
        self._put_whole(self.folder / MANIFEST_FILE, MANIFEST_FILE)

    def complete(self, finished: Container[int]) -> None:
        """Take to the address what is recorded in the staging folder: files of no batch, then the manifest.

        `finished` are the images in the manifest.
        """
        self.begin()
        self.claim.renew()
        manifest = ManifestReader(self.folder)
        common = manifest.head.get("progress", {}).get("common_files", ())  # which are there
        files = [name for name in manifest.run_files() if name not in common and self.local_file(name).is_file()]
        if files:
            self._check_free(files)
            self.remote.write(_RUN_FILES, as_json(files))
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                for _ in pool.map(self.write_file, files):
                    pass
        self.write_manifest()
        remove_unfinished_files(self.remote, manifest, finished)
        records = [name for name in self.remote.names(WORK_FOLDER) if name.startswith(RECORDS)]
        self.remote.remove(f"{WORK_FOLDER}/{name}" for name in records)

    def remove_announced(self, numbers: Iterable[int]) -> None:
        """Remove the files of those of these batches that a lost worker has announced and not recorded."""
        known = {f"{UNFINISHED}{number}" for number in numbers}
        for name in [name for name in self.remote.names(WORK_FOLDER) if name in known]:
            remove_files(self.remote, _read_names(self.remote.read(f"{WORK_FOLDER}/{name}")))
            self.remote.remove([f"{WORK_FOLDER}/{name}"])

    def withdraw(self, earlier: ManifestReader | None, finished: Container[int]) -> None:
        """Leave nothing of this run at the address. `earlier` and `finished` are of the run that it goes on with."""
        remove_unfinished_files(self.remote, earlier, finished)
        if earlier is None and self._mark.exists():
            self.remote.remove([MANIFEST_FILE])

    def _check_free(self, names: Iterable[str]) -> None:
        for name in names:
            if name.partition("/")[0] not in self.own and self.had_file(name):
                raise self._explain_other_file(name)

    def _is_there(self, name: str) -> bool:
        """Return whether a file of an earlier run is there with the content that it has in the staging folder."""
        if name.partition("/")[0] not in self.occupied or (content := self.remote.read(name)) is None:
            return False
        if content != self.local_file(name).read_bytes():
            raise self._explain_other_file(name)
        return True

    def _explain_other_file(self, name: str) -> OutputError:
        reason = "a file of that name is there, which is of no run; move it away"
        return OutputError(f"can't write {self.remote.address / name}: {reason}")

    def _put_whole(self, file: Path, name: str) -> None:
        """Write a manifest to the address, whole or not at all, also where a file may be seen while it is written."""
        self.remote.put(file, _NEW)
        self.remote.replace(_NEW, name)


def remove_unfinished_files(remote: RemoteFolder, earlier: ManifestReader | None, finished: Container[int]) -> None:
    """Remove the files at an address that a run has announced and not secured.

    `earlier` is the manifest of what is secured, and `finished` are the images in it; None if nothing is.
    """
    listed = set(earlier.run_files()) if earlier is not None else set()
    announced = [name for name in remote.names(WORK_FOLDER) if name.startswith(UNFINISHED)]
    for name in announced:
        number = name.removeprefix(UNFINISHED)
        if not (number.isdigit() and int(number) in finished):
            names = _read_names(remote.read(f"{WORK_FOLDER}/{name}"))
            remove_files(remote, [each for each in names if each not in listed])
    remote.remove(f"{WORK_FOLDER}/{name}" for name in announced)


def download_state(remote: RemoteFolder, folder: Path) -> bool:
    """Fill an empty staging folder with what an earlier run has left at an address, but for its files.

    Return whether that run was killed, so that its manifest does not have all of it.
    """
    work = folder / WORK_FOLDER
    try:
        work.mkdir(parents=True)
        if remote.exists(_OLD):
            remove_old_run(remote, folder.parent)
        if not remote.fetch(MANIFEST_FILE, folder / MANIFEST_FILE):
            return False
        (work / "stores").touch()  # then the run is recovered, as one that was killed
        left = remote.names(WORK_FOLDER)
        last: list[int] = []
        """The last batch in each journal, which has batches in their order."""
        for name in sorted(name for name in left if name.startswith(RECORDS)):
            for number, records in split_batches(remote.read(f"{WORK_FOLDER}/{name}") or b""):
                journal = next((place for place, each in enumerate(last) if each < number), len(last))
                last[journal : journal + 1] = [number]
                with (work / f"images-{journal}").open("ab") as file:
                    file.write(records)
    except OSError as error:
        raise OutputError(f"can't write to {folder}: {describe_os_error(error)}") from error
    return any(name.startswith((RECORDS, UNFINISHED)) or name == _NEW.rpartition("/")[2] for name in left)


def remove_old_run(remote: RemoteFolder, scratch: Path) -> None:
    """Remove the run whose manifest is at the address under another name, since another run overwrites it.

    If it is killed, the next run goes on with it. `scratch` is a local folder.
    """
    old = scratch / "old"
    old.mkdir(exist_ok=True)
    try:
        if not remote.fetch(_OLD, old / MANIFEST_FILE):
            return
        work = [f"{WORK_FOLDER}/{name}" for name in remote.names(WORK_FOLDER) if name.startswith((RECORDS, UNFINISHED))]
        remote.remove([MANIFEST_FILE, *work])
        files = ManifestReader(old).all_files()
        while some := list(islice(files, REMOVED_AT_ONCE)):
            remove_files(remote, some)
        remote.remove([_OLD])
    finally:
        shutil.rmtree(old, ignore_errors=True)


def remove_files(remote: RemoteFolder, names: Iterable[str]) -> None:
    """Remove files of a run, and folders that are empty then. Names that lead out of the folder are skipped."""
    inside = [name for name in names if is_inside(name)]
    remote.remove(inside)
    homes = {parent.as_posix() for name in inside for parent in PurePosixPath(name).parents if parent.name}
    remote.remove_empty_folders(sorted(homes, key=len, reverse=True))


def _read_names(content: bytes | None) -> list[str]:
    """Return the names in a list of files; none if it was cut."""
    try:
        names = json.loads(content or b"[]")
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
