"""A folder for a run to write to: free of another run, and of what a run that was killed has left."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from surgery.errors import OutputError
from surgery.output.image_records import describe_os_error, has_finished_images, write_manifest
from surgery.output.manifest_reader import ManifestReader
from surgery.output.workspace import HEAD, Workspace
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

KILLED = "the run was killed"


@contextmanager
def acquire_workspace(folder: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Iterator[Workspace]:
    """Within the block, the folder, which is made, is one run's alone.

    What a run that was killed has left there is put in order before. A folder with a finished run is refused, with
    OutputError, unless it is to be overwritten: then its files are removed once an image of the new run is finished.
    A run that finishes none leaves the folder as it was.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"can't write to {folder}: {describe_os_error(error)}") from error
    try:
        workspace = Workspace(folder)
        try:
            if workspace.has_leftovers():
                recover(workspace)
            check_overwrite(folder, overwrite=overwrite)
            if os.path.lexists(folder / MANIFEST_FILE):
                workspace.set_previous_run_aside(inputs)
            workspace.open_journal()
            yield workspace
        finally:
            _close(workspace)
    finally:
        for path in made:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def check_overwrite(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError where a folder holds a run that is not to be overwritten, or a manifest of something else."""
    if not os.path.lexists(folder / MANIFEST_FILE):
        return
    try:
        head = ManifestReader(folder).head
    except OutputError as error:
        raise OutputError(f"{error}; move it away, or write to another folder") from error
    if not overwrite:
        model = head.get("model")
        name = (model.get("source") or model.get("class")) if isinstance(model, dict) else None
        what = f"a run of {name}" if name else "a run"
        killed = ", which was killed" if head.get("error") == KILLED else ""
        raise OutputError(
            f"{folder} holds {what} already{killed}; replace it by --overwrite (overwrite=True), or write to another "
            "folder"
        )


def recover(workspace: Workspace) -> None:
    """Put in order what a run that was killed has left: a manifest of the images that it finished, and nothing else.

    Where it finished none, the run that it was to replace comes back. Raises OutputError.
    """
    folder = workspace.folder
    if not (folder / MANIFEST_FILE).exists() and has_finished_images(workspace.path):
        try:
            head = json.loads((workspace.path / HEAD).read_bytes())
        except (OSError, ValueError) as error:
            raise OutputError(f"{workspace.path} is damaged; remove it, or write to another folder") from error
        stores = dict.fromkeys(
            name[:-1] for name in workspace.journal_entries() if name.endswith("/") and (folder / name).is_dir()
        )
        for store in stores:
            for part in (folder / store).rglob(".*.part"):  # what a store was writing
                part.unlink(missing_ok=True)
        write_manifest(workspace, {**head, "failed": [], "interrupted": True, "error": KILLED}, stores)
    workspace.remove_unlisted_files()
    if not (folder / MANIFEST_FILE).exists():
        workspace.restore_previous_run()
    workspace.remove_contents()


def _close(workspace: Workspace) -> None:
    done = (workspace.folder / MANIFEST_FILE).exists()
    if not done and has_finished_images(workspace.path):  # the manifest could not be written: the next run will do it
        workspace.close(keep=True)
        return
    if not done:
        workspace.remove_unlisted_files()
        workspace.restore_previous_run()
    workspace.close()
