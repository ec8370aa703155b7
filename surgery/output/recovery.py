"""A folder for one run: locked against other runs, and recovered after a run that was killed."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from surgery.errors import OutputError, describe_os_error
from surgery.output.image_records import has_finished_images
from surgery.output.manifest import write_manifest
from surgery.output.manifest_reader import ManifestReader
from surgery.output.workspace import HEAD, Workspace
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

KILLED = "the run was killed"
"""The error in the manifest that is written for a run that was killed."""


@contextmanager
def acquire_workspace(folder: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()) -> Iterator[Workspace]:
    """Make a folder, and yield its workspace, which belongs to one run for as long as the block lasts.

    First, a run that was killed in the folder is recovered. With `overwrite`, the files of an earlier run are removed
    when the first image of the new run is finished; a run that finishes no image leaves the folder as it was. `inputs`
    are the files that the run reads.

    Raises OutputError if the folder can't be written, if another run writes to it, if it holds a run and `overwrite` is
    false, and if one of `inputs` would be overwritten.
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
        except KeyboardInterrupt as interrupt:
            if _needs_manifest(workspace):
                interrupt.args = (f"the next run into {folder} writes the manifest of its finished images",)
            raise
        finally:
            _close(workspace)
    finally:
        for path in made:
            with suppress(OSError):  # not empty
                path.rmdir()


def check_overwrite(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError if a folder holds a run and `overwrite` is false, or a manifest of another program."""
    if not os.path.lexists(folder / MANIFEST_FILE):
        return
    try:
        head = ManifestReader(folder).head
    except OutputError as error:
        raise OutputError(f"{error}; move it away, or write to another folder") from error
    if not overwrite:
        model = head.get("model")
        name = (model.get("source") or model.get("class")) if isinstance(model, dict) else None
        run = f"a run of {name}" if name else "a run"
        killed = " that was killed" if head.get("error") == KILLED else ""
        raise OutputError(
            f"{folder} already holds {run}{killed}; add --overwrite (overwrite=True) to replace it, or write to "
            "another folder"
        )


def recover(workspace: Workspace) -> None:
    """Complete a run that was killed: write a manifest of its finished images, and remove its other files.

    If it finished no image, the run that it was to overwrite is restored. Raises OutputError if that can't be done.
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
            for part in (folder / store).rglob(".*.part"):  # unfinished files of the store
                part.unlink(missing_ok=True)
        write_manifest(workspace, {**head, "failed": [], "interrupted": True, "error": KILLED}, stores)
    workspace.remove_unlisted_files()
    if not (folder / MANIFEST_FILE).exists():
        workspace.restore_previous_run()
    workspace.remove_contents()


def _close(workspace: Workspace) -> None:
    """Close the workspace of a run that has ended, with or without a manifest."""
    if _needs_manifest(workspace):  # the next run writes it
        workspace.close(keep=True)
        return
    if not (workspace.folder / MANIFEST_FILE).exists():
        workspace.remove_unlisted_files()
        workspace.restore_previous_run()
    workspace.close()


def _needs_manifest(workspace: Workspace) -> bool:
    """Return whether a run has finished images and no manifest."""
    return not (workspace.folder / MANIFEST_FILE).exists() and has_finished_images(workspace.path)
