"""A folder for one run: locked against other runs, and recovered after a run that was killed."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError, describe_os_error
from surgery.output.address import check_folder
from surgery.output.checksums import checksum
from surgery.output.gathering import finish_move, keep_states
from surgery.output.image_records import has_finished_images, read_batches
from surgery.output.manifest_entries import summary_entry
from surgery.output.manifest_reader import ManifestReader, existing_files, has_manifest, listed_checksums, listed_files
from surgery.output.manifest_writer import UNFINISHED, read_tally, write_manifest
from surgery.output.notes import format_notes
from surgery.output.run_identity import MERGE, PLAN, find_difference
from surgery.output.tally import Tally
from surgery.output.workspace import Workspace
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from surgery.output.image_records import BatchRecord

KILLED = "the run was killed"
"""The error in the manifest of a run that was killed."""
MACHINE_STOPPED = "the machine stopped during the run"
"""The error in the manifest of a run during which the machine stopped."""
_ANEW = "add --overwrite (overwrite=True) to replace it, or write to another folder"


@contextmanager
def acquire_workspace(
    folder: Path, *, overwrite: bool = False, inputs: Iterable[Path] = (), head: Mapping[str, Any] | None = None
) -> Iterator[Workspace]:
    """Make a folder, and yield its workspace, which belongs to one run for as long as the block lasts.

    First, a run that was killed in the folder is recovered. With `head`, that of the manifest of the new run, the run
    goes on with what an earlier run of the same has left in the folder. With `overwrite`, the files of an earlier run
    are removed when the first image of the new run is finished; a run that finishes no image leaves the folder as it
    was. `inputs` are the files that the run reads.

    Raises OutputError if the folder can't be written, if another run writes to it, if it holds a run with which this
    one can't go on and `overwrite` is false, and if one of `inputs` would be overwritten.
    """
    check_folder(folder)
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
            check_overwrite(folder, overwrite=overwrite, head=head)
            if overwrite and os.path.lexists(folder / MANIFEST_FILE):
                workspace.set_previous_run_aside(inputs)
            elif os.path.lexists(folder / MANIFEST_FILE):
                found = ManifestReader(folder).head
                workspace.own_files = frozenset(listed_files(found))
                workspace.replaces_files = Tally.from_manifest(found).machine_stopped
            workspace.open_journal()
            yield workspace
        except KeyboardInterrupt as interrupt:
            if _needs_manifest(workspace):
                interrupt.args = (f"the same command goes on with the run in {workspace.place}",)
            raise
        finally:
            _close(workspace)
    finally:
        for path in made:
            with suppress(OSError):  # not empty
                path.rmdir()


def check_overwrite(
    folder: Path, *, overwrite: bool, can_go_on: bool = False, head: Mapping[str, Any] | None = None
) -> None:
    """Raise OutputError if a folder holds a run and `overwrite` is false, or a manifest of another program.

    A run that can go on is no error if `can_go_on` is true, before its `head` is known, or if it is that of `head`.
    """
    if not os.path.lexists(folder / MANIFEST_FILE):
        return
    try:
        found = ManifestReader(folder).head
    except OutputError as error:
        raise OutputError(f"{error}; move it away, or write to another folder") from error
    if overwrite:
        return
    if PLAN in found and can_go_on:
        return
    can_be_merged = MERGE in found or found.get("interrupted") is False
    if PLAN in found and head is not None and PLAN in head and (MERGE not in head or can_be_merged):
        difference = find_difference(found, head)
        if MERGE in found and MERGE not in head:
            difference = "`surgery merge` puts it together, and was stopped"
        if difference is not None:
            raise OutputError(f"{folder} holds another run: {difference}; {_ANEW}")
        return
    model = found.get("model")
    name = (model.get("source") or model.get("class")) if isinstance(model, dict) else None
    run = f"a run of {name}" if name else "a run"
    killed = " that was killed" if found.get("error") == KILLED else ""
    raise OutputError(f"{folder} already holds {run}{killed}; {_ANEW}")


def recover(workspace: Workspace) -> None:
    """Complete a run that was killed: write a manifest of its finished images, and remove its other files.

    After a power cut, images whose files are not what was recorded are not finished. If no image is finished, the run
    that was to be overwritten is restored. Raises OutputError if that can't be done.
    """
    if has_manifest(workspace.folder):
        finish_move(workspace, listed_checksums(ManifestReader(workspace.folder).head))
    has_records = has_finished_images(workspace.path)
    finished = _record_finished_images(workspace) if has_records else _merged_images(workspace.folder)
    workspace.remove_unfinished_files(finished)
    if _is_unfinished(workspace.folder):
        (workspace.folder / MANIFEST_FILE).unlink()
    if not (workspace.folder / MANIFEST_FILE).exists():
        workspace.restore_previous_run()
    workspace.remove_contents()


def _merged_images(folder: Path) -> set[int]:
    """Return the images in the manifest, which a merge writes last, without records."""
    try:
        return Tally.from_manifest(ManifestReader(folder).head).finished
    except (OutputError, LookupError, TypeError, ValueError, AttributeError):
        return set()


def _record_finished_images(workspace: Workspace) -> set[int]:
    """Write the manifest of a run that was killed. Return the numbers of its images."""
    folder = workspace.folder
    if not os.path.lexists(folder / MANIFEST_FILE):
        raise OutputError(f"{workspace.path} is damaged; remove it, or write to another folder")
    head = ManifestReader(folder).head
    has_stopped = workspace.has_machine_stopped()
    lost = _remove_lost_batches(workspace) if has_stopped else set()

    def is_kept(batch: BatchRecord) -> bool:
        return batch.number not in lost

    tally = read_tally(workspace, is_kept=is_kept)
    if tally.finished == Tally.from_manifest(head).finished:  # killed after its manifest was written
        return tally.finished
    stores = [name for name in workspace.stores() if (folder / name).is_dir()]
    for part in (part for name in stores for part in (folder / name).rglob(".*.part")):  # unfinished files of a store
        part.unlink(missing_ok=True)
    files = listed_checksums(head) | dict.fromkeys(stores) | tally.common_files
    files |= keep_states(workspace, tally)
    content = {name: value for name, value in head.items() if name not in ("progress", "files", "crc32", "stores")}
    content |= {"operations": [summary_entry(each) for each in tally.ordered_summaries()]} if tally.summaries else {}
    content |= {"check": tally.check} if tally.check else {}
    content |= {"notes": format_notes(tally.notes)} if tally.notes else {}
    content["failed"] = [failure for failure in head["failed"] if failure["number"] not in tally.finished]
    content["interrupted"] = True
    content["error"] = MACHINE_STOPPED if has_stopped else KILLED
    tally.machine_stopped |= has_stopped
    write_manifest(workspace, content, tally, files, is_kept)
    return tally.finished


def _remove_lost_batches(workspace: Workspace) -> set[int]:
    """Remove the files of the recorded batches of which a file is not what was recorded. Return their numbers.

    Nothing can be taken from what sinks have gathered: if there is a state of that, all recorded batches are lost.
    """
    lost = {batch.number for batch in read_batches(workspace.path) if any(_damaged_files(workspace, batch))}
    loses_all = bool(lost) and bool(read_tally(workspace).states)
    for batch in read_batches(workspace.path):
        if batch.number in lost or loses_all:
            lost.add(batch.number)
            for _, path in existing_files(workspace.folder, _recorded_files(batch)):
                path.unlink(missing_ok=True)
    return lost


def _damaged_files(workspace: Workspace, batch: BatchRecord) -> Iterator[str]:
    """Yield the files of a batch that are missing, or not what was recorded."""
    recorded = _recorded_files(batch)
    found = dict(existing_files(workspace.folder, recorded))
    yield from (name for name, crc32 in recorded.items() if name not in found or _differs(found[name], crc32))


def _recorded_files(batch: BatchRecord) -> dict[str, str | None]:
    """Return the files of a batch with their checksums, and those of the whole run that were written with it."""
    recorded: dict[str, str | None] = {**batch.tally.get("common_files", {})}
    for image in batch.images:
        recorded |= listed_checksums(json.loads(image.entry))
    return recorded


def _differs(path: Path, crc32: str | None) -> bool:
    try:
        return crc32 is not None and checksum(path) != crc32
    except OSError:
        return True


def _close(workspace: Workspace) -> None:
    """Close the workspace of a run that has ended, with or without a manifest."""
    if _needs_manifest(workspace):  # the next run writes it
        workspace.close(keep=True)
        return
    if not workspace.is_recorded:
        workspace.remove_unfinished_files()
    if _is_unfinished(workspace.folder):
        (workspace.folder / MANIFEST_FILE).unlink(missing_ok=True)
    if not (workspace.folder / MANIFEST_FILE).exists():
        workspace.restore_previous_run()
    workspace.close()


def _needs_manifest(workspace: Workspace) -> bool:
    """Return whether a run has finished images that its manifest does not list."""
    return not workspace.is_recorded and has_finished_images(workspace.path)


def _is_unfinished(folder: Path) -> bool:
    """Return whether the manifest in a folder is the one that was written when a run began."""
    try:
        return ManifestReader(folder).head.get("error") == UNFINISHED
    except OutputError:
        return False
