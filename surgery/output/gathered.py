"""What a sink gathers of images for a file of the whole run, as the run sees it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from surgery.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from surgery.output.workspace import Workspace


class Gathered(Protocol):
    """What a sink has gathered of some images."""

    def merge(self, other: Any, /) -> Any:
        """Return what is gathered of the images of both. The order makes no difference."""

    def save(self, path: Path, /, *, is_part: bool) -> None:
        """Write it to a file, from which a `Loader` reads it.

        With `is_part`, it will be merged with that of other images. Otherwise, the images are all of a run.
        """


Loader: TypeAlias = "Callable[[Path], Gathered]"
"""Reads what was gathered from a file."""


def check_free(workspace: Workspace, name: str, known: Iterable[str] = ()) -> None:
    """Raise OutputError if there is a file of this name that is of no run."""
    target = workspace.folder / name
    if os.path.lexists(target) and name not in known and name not in workspace.own_files:
        raise OutputError(f"can't write {target}: a file of that name is there, which is of no run; move it away")
    if workspace.uploads is not None:
        workspace.uploads.run.check_free([name])
