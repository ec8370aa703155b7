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
state-*/, merged-*  what sinks have gathered, as `remote_sums` says
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError
from surgery.output.json_values import as_json
from surgery.output.locks import Lock
from surgery.output.manifest_reader import ManifestReader
from surgery.output.remote_recovery import (
    NEW,
    OLD,
    RECORDS,
    UNFINISHED,
    read_names,
    remove_files,
    remove_old_run,
    remove_unfinished_files,
)
from surgery.output.remote_sums import MERGED, remove_work_files, state_files
from surgery.text import MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from surgery.output.remote_claim import RemoteClaim
    from surgery.output.remote_folder import RemoteFolder

_RUN_FILES = f"{WORK_FOLDER}/{UNFINISHED}run"
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
    listed: frozenset[str] = frozenset()
    """The files of the whole run that the manifest of that one lists."""
    left: frozenset[str] = frozenset()
    """The names in `.surgery` of what an earlier run has left."""
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
                    self._put_whole(old, OLD)
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
        self.check_free(names)
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
        self.remote.write(self.records_file(name), content)

    def records_file(self, name: str) -> str:
        """Return the file at the address that has these records."""
        return f"{WORK_FOLDER}/{RECORDS}{name}"

    def remove_work_files(self, names: Iterable[str]) -> None:
        """Remove files in `.surgery` at the address."""
        remove_work_files(self.remote, names)

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
        progress = manifest.head.get("progress", {})
        common, gathered = progress.get("common_files", ()), progress.get("gathered", ())  # common ones are there
        names = [*manifest.run_files()]
        files = [name for name in names if name not in common and self.local_file(name).is_file()]
        merged = [name for name in files if name in gathered and name in self.listed]
        changed = sorted({*files, *self.listed.difference(names)}.difference(merged))
        if changed:
            self.check_free(files)
            self.remote.write(_RUN_FILES, as_json(changed))
        for name in merged:  # what the manifest lists is always what its images add up to
            self.remote.put(self.local_file(name), f"{WORK_FOLDER}/{MERGED}{name}")
        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            for _ in pool.map(self.write_file, (name for name in files if name not in merged)):
                pass
        self.write_manifest()
        for name in merged:
            self.remote.replace(f"{WORK_FOLDER}/{MERGED}{name}", name)
        remove_unfinished_files(self.remote, manifest, finished)
        self._remove_records()

    def remove_announced(self, numbers: Iterable[int]) -> None:
        """Remove the files of those of these batches that a lost worker has announced and not recorded."""
        known = {f"{UNFINISHED}{number}" for number in numbers}
        for name in [name for name in self.remote.names(WORK_FOLDER) if name in known]:
            remove_files(self.remote, read_names(self.remote.read(f"{WORK_FOLDER}/{name}")))
            self.remote.remove([f"{WORK_FOLDER}/{name}"])

    def withdraw(self, earlier: ManifestReader | None, finished: Container[int]) -> None:
        """Leave nothing of this run at the address. `earlier` and `finished` are of the run that it goes on with."""
        remove_unfinished_files(self.remote, earlier, finished)
        self._remove_records(kept=self.left)  # an earlier run that was to be overwritten needs them
        if earlier is None and self._mark.exists():
            self.remote.remove([MANIFEST_FILE])

    def check_free(self, names: Iterable[str]) -> None:
        """Raise OutputError if a file of one of these names is there that is of no run."""
        for name in names:
            if name.partition("/")[0] not in self.own and self.had_file(name):
                raise self._explain_other_file(name)

    def _remove_records(self, kept: Container[str] = ()) -> None:
        """Remove the records, and the states that they name: the manifest lists all of it."""
        left = [name for name in self.remote.names(WORK_FOLDER) if name not in kept]
        self.remote.remove(f"{WORK_FOLDER}/{name}" for name in left if name.startswith(RECORDS))
        self.remove_work_files(state_files(self.remote, left))

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
        self.remote.put(file, NEW)
        self.remote.replace(NEW, name)
