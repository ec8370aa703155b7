"""What sinks gather of all images of a run, such as statistics: added up by each process, saved now and then, merged.

Each process adds what its batches give to a sum of its own. The batches count as finished when their sum is saved: the
record of the last of them names the saved state, so that images and sums always agree, whatever stops the run. At the
end of a run the states of all processes become one file.
"""

from __future__ import annotations

import time
from functools import reduce
from typing import TYPE_CHECKING
from uuid import uuid4

from surgery.errors import OutputError, describe_os_error
from surgery.output.checksums import checksum
from surgery.output.gathered import check_free
from surgery.output.image_records import sync_file
from surgery.output.remote_sums import STATE, write_state
from surgery.output.workspace import RUN
from surgery.text import WORK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from surgery.output.gathered import Gathered, Loader
    from surgery.output.tally import Tally
    from surgery.output.workspace import Workspace

SAVE_INTERVAL = 1.0
"""Seconds between two states: the most that a kill can lose."""
SAVE_SHARE = 0.03
"""The share of the time that may be spent on saving."""
_MERGED = "merged.part"


class GatheredSums:
    """What one process has gathered of the images that it has recorded, by the name of the file."""

    def __init__(self) -> None:
        self._token = uuid4().hex[:12]
        self._number = 0
        self._sums: dict[str, Gathered] = {}
        self._saved = time.monotonic()
        self._cost = 0.0

    def add(self, parts: Iterable[tuple[str, Gathered]]) -> None:
        """Add what was gathered of a batch."""
        for name, part in parts:
            self._sums[name] = self._sums[name].merge(part) if name in self._sums else part

    def __bool__(self) -> bool:
        """Whether anything was gathered."""
        return bool(self._sums)

    def is_due(self) -> bool:
        """Return whether it is time to save a state."""
        return time.monotonic() - self._saved >= max(SAVE_INTERVAL, self._cost / SAVE_SHARE)

    def save(self, workspace: Workspace) -> dict[str, int]:
        """Save a state, at the address of the run too, and return its number by the token of the process.

        The one before stays. Raises OutputError if it can't be written.
        """
        started = time.monotonic()
        self._number += 1
        place = workspace.path / state_name(self._token, self._number)
        try:
            place.mkdir()
            for name, gathered in self._sums.items():
                gathered.save(place / name, is_part=True)
                sync_file(place / name)
        except OSError as error:
            raise OutputError(f"can't write to {workspace.folder}: {describe_os_error(error)}") from error
        if workspace.uploads is not None:
            write_state(workspace.uploads.run.remote, place)
        self._saved = time.monotonic()
        self._cost = self._saved - started
        return {self._token: self._number}

    def forget_earlier(self, workspace: Workspace) -> tuple[str, ...]:
        """Remove the state before the last one, once the records name the last one. Return its files at an address."""
        name = state_name(self._token, self._number - 1)
        _remove(workspace.path / name)
        return tuple(f"{WORK_FOLDER}/{name}/{each}" for each in self._sums) if self._number > 1 else ()


def state_name(token: str, number: int) -> str:
    """Return the name of a state in the workspace."""
    return f"{STATE}{token}-{number}"


def keep_states(workspace: Workspace, tally: Tally) -> dict[str, str]:
    """Move the states that the records of a killed run name into its folder, and note in the tally what they hold.

    Returns the files with their checksums. What was moved before this was interrupted is found where it is.
    """
    files: dict[str, str] = {}
    for token, number in sorted(tally.states.items()):
        place = workspace.path / state_name(token, number)
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            path.replace(workspace.folder / _name_part(path.name, token))
        for path in sorted(workspace.folder.glob(f"*.{token}.*")):
            name = path.name.replace(f".{token}.", ".")
            files[path.name] = checksum(path)
            tally.gathered[name] = [*tally.gathered.get(name, ()), path.name]
    tally.states = {}
    return files


def _name_part(name: str, token: str) -> str:
    stem, _, suffix = name.partition(".")
    return f"{stem}.{token}.{suffix}"


class MergedFiles:
    """The files of what the processes of a run have gathered, until they take the place of their parts.

    They wait in the workspace until the manifest lists them: what it lists is always what its images add up to.
    """

    def __init__(self, workspace: Workspace, tally: Tally, loaders: Mapping[str, Loader], *, is_part: bool) -> None:
        """Merge what the states and the files in the tally hold: that of a part of the run, or of all of it.

        Raises OutputError if that can't be done.
        """
        self._workspace = workspace
        self._replaced: list[str] = []
        self.files: dict[str, str] = {}
        """The files with their checksums."""
        states = [workspace.path / state_name(token, number) for token, number in sorted(tally.states.items())]
        for name, load in loaders.items():
            earlier = tally.gathered.get(name, [])
            paths = [*(workspace.folder / part for part in earlier), *(state / name for state in states)]
            paths = [path for path in paths if path.exists()]
            if not paths:
                continue
            check_free(workspace, name, earlier)
            merged = merge_gathered(paths, load, workspace.path / f"{name}.{_MERGED}", is_part=is_part)
            for part in (name, *earlier):
                workspace.note_file(part, RUN)
            self._replaced += [part for part in earlier if part != name]
            self.files[name] = checksum(merged)
            tally.gathered[name] = [name]
        tally.states = {}

    @property
    def replaced(self) -> tuple[str, ...]:
        """The files that are no longer needed."""
        return tuple(self._replaced)

    def move(self) -> None:
        """Move the files to their places, once the manifest lists them, and remove their parts."""
        for name in self.files:
            (self._workspace.path / f"{name}.{_MERGED}").replace(self._workspace.folder / name)
        for name in self._replaced:
            (self._workspace.folder / name).unlink(missing_ok=True)


def merge_gathered(paths: Sequence[Path], load: Loader, target: Path, *, is_part: bool) -> Path:
    """Merge files of what was gathered into the file `target`, and return it. Raises OutputError."""
    try:
        reduce(lambda one, other: one.merge(other), map(load, paths)).save(target, is_part=is_part)
        sync_file(target)
    except (OSError, ValueError, LookupError, TypeError) as error:
        what = describe_os_error(error) if isinstance(error, OSError) else "it is damaged"
        raise OutputError(f"can't merge {', '.join(path.name for path in paths)}: {what}") from error
    return target


def finish_move(workspace: Workspace, checksums: Mapping[str, str | None]) -> None:
    """Move the files that a run has merged before it was killed, if the manifest lists them with these checksums."""
    for path in workspace.path.glob(f"*.{_MERGED}"):
        name = path.name.removesuffix(f".{_MERGED}")
        if checksums.get(name) == checksum(path):
            path.replace(workspace.folder / name)


def _remove(place: Path) -> None:
    if place.is_dir():
        for path in place.iterdir():
            path.unlink(missing_ok=True)
        place.rmdir()
