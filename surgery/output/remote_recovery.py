"""What a run that was stopped has left at an address: the next one reads it, and removes what is not finished."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from surgery.errors import OutputError, describe_os_error
from surgery.output.image_records import split_batches
from surgery.output.manifest_reader import ManifestReader, is_inside
from surgery.output.remote_folder import REMOVED_AT_ONCE
from surgery.output.remote_sums import MERGED, STATE, fetch_gathered, fetch_states, remove_work_files, state_files
from surgery.text import MANIFEST_FILE, WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

    from surgery.output.remote_folder import RemoteFolder

RECORDS = "records-"
UNFINISHED = "unfinished-"
OLD = f"{WORK_FOLDER}/old.json"
NEW = f"{WORK_FOLDER}/new.json"
_FILES_AT_ONCE = 16


def remove_unfinished_files(remote: RemoteFolder, earlier: ManifestReader | None, finished: Container[int]) -> None:
    """Remove the files at an address that a run has announced and not secured.

    `earlier` is the manifest of what is secured, and `finished` are the images in it; None if nothing is.
    """
    listed = set(earlier.run_files()) if earlier is not None else set()
    announced = [name for name in remote.names(WORK_FOLDER) if name.startswith(UNFINISHED)]
    for name in announced:
        number = name.removeprefix(UNFINISHED)
        if not (number.isdigit() and int(number) in finished):
            names = read_names(remote.read(f"{WORK_FOLDER}/{name}"))
            remove_files(remote, [each for each in names if each not in listed])
    remote.remove(f"{WORK_FOLDER}/{name}" for name in announced)


def download_state(remote: RemoteFolder, folder: Path) -> bool:
    """Fill an empty staging folder with what an earlier run has left at an address, but for its files.

    Return whether that run was killed, so that its manifest does not have all of it.
    """
    work = folder / WORK_FOLDER
    try:
        work.mkdir(parents=True)
        if remote.exists(OLD):
            remove_old_run(remote, folder.parent)
        if not remote.fetch(MANIFEST_FILE, folder / MANIFEST_FILE):
            return False
        (work / "stores").touch()  # then the run is recovered, as one that was killed
        left = remote.names(WORK_FOLDER)
        last: list[int] = []
        """The last batch in each journal, which has batches in their order."""
        for content in _read_all(remote, sorted(name for name in left if name.startswith(RECORDS))):
            for first, end, records in split_batches(content):
                journal = next((place for place, each in enumerate(last) if each < first), len(last))
                last[journal : journal + 1] = [end]
                with (work / f"images-{journal}").open("ab") as file:
                    file.write(records)
        fetch_states(remote, left, folder)
        fetch_gathered(remote, left, folder)
    except OSError as error:
        raise OutputError(f"can't write to {folder}: {describe_os_error(error)}") from error
    return any(name.startswith((RECORDS, UNFINISHED, STATE, MERGED)) or f"{WORK_FOLDER}/{name}" == NEW for name in left)


def _read_all(remote: RemoteFolder, names: Iterable[str]) -> Iterator[bytes]:
    """Yield the content of files in `.surgery`, of which a few are read at once and held in memory."""
    left = iter(names)
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        while some := list(islice(left, _FILES_AT_ONCE)):
            yield from pool.map(lambda name: remote.read(f"{WORK_FOLDER}/{name}") or b"", some)


def remove_old_run(remote: RemoteFolder, scratch: Path) -> None:
    """Remove the run whose manifest is at the address under another name, since another run overwrites it.

    If it is killed, the next run goes on with it. `scratch` is a local folder.
    """
    old = scratch / "old"
    old.mkdir(exist_ok=True)
    try:
        if not remote.fetch(OLD, old / MANIFEST_FILE):
            return
        left = remote.names(WORK_FOLDER)
        work = [f"{WORK_FOLDER}/{name}" for name in left if name.startswith((RECORDS, UNFINISHED, MERGED))]
        remote.remove([MANIFEST_FILE, *work])
        remove_work_files(remote, state_files(remote, left))
        files = ManifestReader(old).all_files()
        while some := list(islice(files, REMOVED_AT_ONCE)):
            remove_files(remote, some)
        remote.remove([OLD])
    finally:
        shutil.rmtree(old, ignore_errors=True)


def remove_files(remote: RemoteFolder, names: Iterable[str]) -> None:
    """Remove files of a run, and folders that are empty then. Names that lead out of the folder are skipped."""
    inside = [name for name in names if is_inside(name)]
    remote.remove(inside)
    homes = {parent.as_posix() for name in inside for parent in PurePosixPath(name).parents if parent.name}
    remote.remove_empty_folders(sorted(homes, key=len, reverse=True))


def read_names(content: bytes | None) -> list[str]:
    """Return the names in a list of announced files; none if it was cut."""
    try:
        names = json.loads(content or b"[]")
    except (ValueError, RecursionError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
