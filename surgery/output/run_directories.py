"""The directories of one run in its output folder, and whose files are in them."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surgery.output.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A directory that a run writes to."""

    path: str
    is_new: bool
    """Whether the run made it, so that all files in it are the run's."""


class RunDirectories:
    """Makes the directories of a run, and protects files that were there before.

    With a `workspace`, each directory is noted in it before it appears, so that the next run can remove it if this
    one is killed. Threads of one run share an instance.
    """

    def __init__(self, root: Path, workspace: Workspace | None) -> None:
        self._root = root
        self._workspace = workspace
        self._by_name: dict[str, RunDirectory] = {}
        self._own_files: set[str] = set() if workspace is None else {*workspace.own_files}
        """Files of this run in directories that were there before."""

    def make(self, name: str, batch: int = 0) -> RunDirectory:
        """Return the directory `name`, relative to the folder; make it and its parents on the first call.

        `batch` is the number of the batch that needs it.

        Raises OSError if it can't be made, and NotADirectoryError if it leads out of the folder.
        """
        if (known := self._by_name.get(name)) is not None:
            return known
        path, is_new, inside = str(self._root), False, ""
        if not self._root.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
        for part in filter(None, name.split("/")):
            path, inside = f"{path}/{part}", f"{inside}/{part}" if inside else part
            is_new = self._make_one(path, inside, batch)
        made = self._by_name[name] = RunDirectory(path, is_new)
        return made

    def _make_one(self, path: str, name: str, batch: int) -> bool:
        """Make a directory whose parent exists. Return whether it is new."""
        if not os.path.lexists(path):
            if self._workspace is not None:
                self._workspace.note_file(f"{name}/.", batch)
            try:
                os.mkdir(path)  # noqa: PTH102 - a Path takes longer
            except FileExistsError:  # another process of this run was faster
                return False
            return True
        self.check_inside(path)
        return False

    def check_inside(self, path: str) -> None:
        """Raise NotADirectoryError if a path is not a directory inside the folder."""
        if not os.path.isdir(path):  # noqa: PTH112
            raise NotADirectoryError(errno.ENOTDIR, "not a directory")
        if os.path.islink(path):  # noqa: PTH114
            root = os.path.realpath(self._root)
            if not Path(os.path.realpath(path)).is_relative_to(root):
                raise NotADirectoryError(errno.ENOTDIR, f"{path} leads out of the folder")

    def claim_file(self, name: str, path: str, *, is_written_once: bool = False) -> None:
        """Mark a file in a directory that was there before as this run's, unless it `is_written_once`.

        Raises FileExistsError if a file that is not this run's exists there.
        """
        is_replaced = self._workspace is not None and self._workspace.replaces_files
        if name not in self._own_files and not is_replaced and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "a file of that name is there, which is of no run; move it away")
        if not is_written_once:
            self._own_files.add(name)

    def forget(self, name: str) -> None:
        """Forget a directory, which is made again if it is needed."""
        self._by_name.pop(name, None)
