"""Writes `manifest.json` from the manifest that is there and from the records of a run."""

from __future__ import annotations

import heapq
import json
import os
from contextlib import suppress
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError, describe_os_error
from surgery.output.image_records import read_batches, sync_folder
from surgery.output.json_values import as_json, encodable
from surgery.output.manifest_reader import IMAGES_LINE, ManifestReader
from surgery.output.tally import Tally
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from surgery.output.image_records import BatchRecord
    from surgery.output.workspace import Workspace
    from surgery.types import Operation

UNFINISHED = "the run is not finished"
"""The error in the manifest of a run that goes on."""


def read_tally(
    workspace: Workspace,
    operations: Iterable[Operation] = (),
    is_kept: Callable[[BatchRecord], bool] = lambda _: True,
) -> Tally:
    """Return what the images in the manifest and in the records add up to. Raises OutputError."""
    tally = Tally()
    try:
        if os.path.lexists(workspace.folder / MANIFEST_FILE):
            tally = Tally.from_manifest(ManifestReader(workspace.folder).head, operations)
        for batch in read_batches(workspace.path, is_kept):
            if batch.number not in tally.finished:
                tally.merge(Tally.from_record(batch.tally, operations))
    except (LookupError, TypeError, ValueError, AttributeError, OSError) as error:
        raise OutputError(
            f"what a run has recorded in {workspace.place} is damaged; add --overwrite (overwrite=True) to begin "
            "anew, or write to another folder"
        ) from error
    return tally


def write_manifest(
    workspace: Workspace,
    content: Mapping[str, Any],
    tally: Tally,
    files: Mapping[str, str | None],
    is_kept: Callable[[BatchRecord], bool] = lambda _: True,
    entries: Iterable[bytes] | None = None,
) -> None:
    """Write `manifest.json`, whole or not at all. The images in the manifest that is there stay in it.

    `content` is its head, `tally` that of all images, and `files` are those of the whole run with their checksums.
    `entries` are those of the images, in order; by default those of the manifest that is there and of the records.
    Nothing is held in memory but a batch. Raises OutputError if the manifest can't be written.
    """
    files = dict(sorted(files.items()))
    contents = {name: _store_contents(workspace.folder / name) for name in files}
    stores = {name: names for name, names in contents.items() if names is not None}
    checksums = {name: crc32 for name, crc32 in files.items() if crc32 is not None}
    more = {name: values for name, values in (("crc32", checksums), ("stores", stores)) if values}
    long = {name: content[name] for name in ("graph",) if name in content} | {"progress": tally.record()}
    head = {**{name: value for name, value in content.items() if name not in long}, "files": [*files], **more}
    part = workspace.path / f"{MANIFEST_FILE}.part"
    try:
        with part.open("wb") as file:
            file.write(json.dumps(encodable(head), indent=1, allow_nan=False).removesuffix("\n}").encode())
            for name, value in long.items():  # on one line, since a graph may have thousands of edges
                file.write(f',\n "{name}": '.encode() + as_json(value))
            file.write(b",\n" + IMAGES_LINE)
            for place, entry in enumerate(_read_entries(workspace, is_kept) if entries is None else entries):
                file.write((b",\n" if place else b"\n") + entry)
            file.write(b"\n ]\n}\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(workspace.folder / MANIFEST_FILE)
        sync_folder(workspace.folder)
    except OSError as error:
        raise OutputError(f"can't write {workspace.folder / MANIFEST_FILE}: {describe_os_error(error)}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _read_entries(workspace: Workspace, is_kept: Callable[[BatchRecord], bool]) -> Iterator[bytes]:
    """Yield the entries of images, in the order of their numbers, from the manifest and from the records."""
    known: set[int] = set()
    before: Iterator[tuple[int, bytes]] = iter(())
    if os.path.lexists(workspace.folder / MANIFEST_FILE):
        reader = ManifestReader(workspace.folder)
        before = reader.numbered_entries()
        known = Tally.from_manifest(reader.head).finished if "progress" in reader.head else known
    new = (
        (image.number, image.entry)
        for batch in read_batches(workspace.path, is_kept)
        if batch.number not in known
        for image in batch.images
    )
    for _, entry in heapq.merge(before, new, key=itemgetter(0)):
        yield entry


def _store_contents(store: Path) -> list[str] | None:
    """Return the files in the directory of a store, relative to it; None for a path that is a file."""
    if not store.is_dir():
        return None
    return sorted(path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
