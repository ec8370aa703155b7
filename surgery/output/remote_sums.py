"""What sinks have gathered, such as statistics, at the address of a run that works in a staging folder.

In `.surgery` there, ``state-T-K/`` has state K of process T, as in a folder. A state is written before the records that
name it, and removed after those that name the next one. At the end of a run, ``merged-NAME`` is what takes the place of
the file NAME when the manifest lists it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.errors import OutputError
from surgery.output.checksums import checksum
from surgery.output.manifest_reader import ManifestReader, is_inside, listed_checksums
from surgery.text import WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from surgery.output.remote_folder import RemoteFolder

STATE, MERGED = "state-", "merged-"


def write_state(remote: RemoteFolder, place: Path) -> None:
    """Write a state, whose files are in a folder of the local workspace, to the address."""
    for path in place.iterdir():
        remote.put(path, f"{WORK_FOLDER}/{place.name}/{path.name}")


def state_files(remote: RemoteFolder, left: Iterable[str]) -> Iterator[str]:
    """Yield the files of the states among the names in `.surgery`."""
    for state in (name for name in left if name.startswith(STATE)):
        yield from (f"{WORK_FOLDER}/{state}/{name}" for name in remote.names(f"{WORK_FOLDER}/{state}"))


def remove_work_files(remote: RemoteFolder, names: Iterable[str]) -> None:
    """Remove files in `.surgery`, and the folders of states that are empty then."""
    found = list(names)
    remote.remove(found)
    remote.remove_empty_folders({name.rpartition("/")[0] for name in found} - {WORK_FOLDER})


def fetch_states(remote: RemoteFolder, left: Iterable[str], folder: Path) -> None:
    """Copy the states among the names in `.surgery` to a staging folder. Raises OSError."""
    for name in state_files(remote, left):
        (folder / name).parent.mkdir(exist_ok=True)
        remote.fetch(name, folder / name)


def fetch_gathered(remote: RemoteFolder, left: Iterable[str], folder: Path) -> None:
    """Copy the files that hold what sinks have gathered to the staging folder, which has the manifest already.

    What was merged takes its place if the manifest lists it, and is removed otherwise. One that is missing is not
    copied. Raises OSError.
    """
    try:
        head = ManifestReader(folder).head
        gathered = {str(name) for names in head["progress"].get("gathered", {}).values() for name in names}
    except (OutputError, LookupError, TypeError, AttributeError):  # the run that goes on says it
        return
    checksums = listed_checksums(head)
    for merged in (name for name in left if name.startswith(MERGED)):
        name, copy = merged.removeprefix(MERGED), folder / WORK_FOLDER / "merged.part"
        if remote.fetch(f"{WORK_FOLDER}/{merged}", copy) and checksums.get(name) == checksum(copy):
            remote.replace(f"{WORK_FOLDER}/{merged}", name)
        else:
            remote.remove([f"{WORK_FOLDER}/{merged}"])
        copy.unlink(missing_ok=True)
    for name in filter(is_inside, gathered):
        remote.fetch(name, folder / name)
