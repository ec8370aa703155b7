"""Puts the shards of a run together: the files and the manifest of a run that was never divided."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.interrupts import watch_interrupts
from surgery.output.address import Address, parse_place
from surgery.output.checksums import checksum
from surgery.output.failures import Failure
from surgery.output.gathered import check_free
from surgery.output.gathering import merge_gathered
from surgery.output.linking import link_files
from surgery.output.manifest_entries import summary_entry
from surgery.output.manifest_reader import listed_files, listed_page_files
from surgery.output.manifest_writer import write_manifest
from surgery.output.notes import Notes, format_notes, merge_notes
from surgery.output.page_writer import write_page
from surgery.output.report import Report
from surgery.output.run_identity import MERGE
from surgery.output.shard_copying import ShardCopies
from surgery.output.shard_parts import find_parts, home_of, identify
from surgery.output.shards import SHARD
from surgery.output.staging import acquire_output
from surgery.output.tally import Tally
from surgery.output.workspace import RUN

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from surgery.output.address import Place
    from surgery.output.gathered import Loader
    from surgery.output.shard_parts import ShardPart
    from surgery.output.workspace import Workspace

_RESULTS = ("check", "notes", "operations", "failed", "interrupted", "error", "files", "crc32", "stores", "progress")
"""The keys of a manifest's head that say what a run did, not what it is."""


def merge_shards(
    *folders: str | os.PathLike[str] | Address,
    out: str | os.PathLike[str] | Address | None = None,
    overwrite: bool = False,
    find_loader: Callable[[str], Loader | None] = lambda _: None,
) -> Report:
    """Put the shards of a run together, and return the report of the whole run, as `surgery.merge` does.

    `find_loader` returns what reads a file of what a sink has gathered, by the name of the file; None if it is not
    known.
    """
    started = time.perf_counter()
    places, target = [parse_place(folder) for folder in folders], None if out is None else parse_place(out)
    find_loader = cache(find_loader)
    with TemporaryDirectory(prefix="surgery-", ignore_cleanup_errors=True) as temporary:
        parts = find_parts(places, Path(temporary))
        target = home_of(parts) if target is None else target
        has_page = _check_target(target, parts)
        tally, failures, notes = _add_up(parts, find_loader)
        content = _head(parts[0], tally, failures, notes)
        files = _write(parts, target, content, tally, find_loader, overwrite=overwrite)
    overview: Place | None = None if tally.overview is None else target / tally.overview[1]
    return Report(
        folder=target,
        images=len(tally.finished),
        files=files + 1,
        failed=tuple(failures),
        summaries=tally.ordered_summaries(),
        seconds=time.perf_counter() - started,
        notes=format_notes(notes),
        overview=write_page(target) if has_page and isinstance(target, Path) else overview,
        not_reached=tally.not_reached,
    )


def _check_target(target: Place, parts: Sequence[ShardPart]) -> bool:
    """Raise OutputError if shards can't be merged into a place. Return whether they have a page."""
    if any(identify(part.place) == identify(target) for part in parts):
        raise OutputError(f"{target} is a shard itself; merge into another folder (-o FOLDER, out=)")
    paged = [part for part in parts if any(True for _ in listed_page_files(part.reader.folder))]
    if paged and isinstance(target, Address):
        raise OutputError(
            f"{paged[0].place} has a page, which is written into a folder of this machine; merge into a folder (-o "
            "FOLDER, out=)"
        )
    return bool(paged)


def _head(first: ShardPart, tally: Tally, failures: Sequence[Failure], notes: Notes) -> dict[str, Any]:
    """Return the head of the manifest of the whole run."""
    head = {name: value for name, value in first.reader.head.items() if name not in (*_RESULTS, SHARD)}
    head |= {"check": tally.check} if tally.check else {}
    head |= {"notes": format_notes(notes)} if notes else {}
    head["operations"] = [summary_entry(summary) for summary in tally.ordered_summaries()]
    return head | {"failed": [asdict(failure) for failure in failures], "interrupted": False}


def _write(
    parts: Sequence[ShardPart],
    target: Place,
    content: Mapping[str, Any],
    tally: Tally,
    find_loader: Callable[[str], Loader | None],
    *,
    overwrite: bool,
) -> int:
    """Bring all files to their place and write the manifest. Return the number of files, without the manifest."""
    is_linked = isinstance(target, Path) and all(part.is_local for part in parts)
    begun = None if is_linked else {**content, MERGE: True}
    with (
        watch_interrupts(held=True) as interrupts,
        acquire_output(target, overwrite=overwrite, head=begun) as workspace,
    ):
        if begun is None:
            interrupts.allow()
            files = link_files(parts, workspace, min(tally.finished), tally.gathered)
        else:
            files = ShardCopies(parts, workspace, interrupts).bring(begun, [*tally.common_files])
            interrupts.allow()
        gathered = _merge_gathered(parts, workspace, {name: find_loader(name) for name in tally.gathered})
        interrupts.hold()
        write_manifest(workspace, content, tally, tally.common_files | gathered, entries=_entries(parts))
        workspace.is_recorded = True
    return files + len(gathered)


def _add_up(
    parts: Sequence[ShardPart], find_loader: Callable[[str], Loader | None]
) -> tuple[Tally, list[Failure], Notes]:
    """Return what the images of all shards add up to, those that failed, and all notes.

    Raises OutputError if that is not what one run gives.
    """
    tally = Tally()
    failures: list[Failure] = []
    notes: Notes = {}
    shared: dict[str, Any] = {}
    for part in parts:
        head = part.reader.head
        try:
            more = Tally.from_manifest(head)
            _check_run_files(part, more, tally, find_loader)
            shared = _merge_decisions(shared, more.shared, part)
            tally.merge(more)
            failures += [Failure(each["path"], each["reason"], int(each["number"])) for each in head["failed"]]
            found = head[SHARD].get("notes", {})
            merge_notes(notes, {text: (str(path), int(count)) for text, (path, count) in found.items()})
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise OutputError(f"{part.reader.shown} is damaged; run its shard again with --overwrite") from error
    if not tally.finished:
        raise OutputError("no image was finished in any shard; their manifests say why")
    tally.shared, tally.machine_stopped = shared, False
    merge_notes(notes, tally.notes)
    return tally, sorted(failures, key=lambda failure: failure.number), notes


def _check_run_files(part: ShardPart, own: Tally, before: Tally, find_loader: Callable[[str], Loader | None]) -> None:
    """Raise OutputError for files of the whole shard, but for those that are the same in all shards or are merged."""
    common = own.common_files
    for name in (*listed_files(part.reader.head), *part.reader.stores()):
        if name in own.gathered and find_loader(name) is None:
            raise OutputError(
                f"{part.place / name} was gathered by a sink that no plugin offers; merge in Python, where "
                "surgery.merge(..., sinks=[...]) takes the sink"
            )
        is_same = name in common and before.common_files.get(name, common[name]) == common[name]
        if not is_same and name not in own.gathered:
            raise OutputError(
                f"{part.place / name} belongs to all images of its shard, and can't be merged; run without "
                "shards, or without the sink that writes it"
            )


def _merge_gathered(
    parts: Sequence[ShardPart], workspace: Workspace, loaders: Mapping[str, Loader | None]
) -> dict[str, str]:
    """Write the files of what sinks have gathered in all shards. Return them with their checksums."""
    files: dict[str, str] = {}
    for name, load in loaders.items():
        paths = [part.local_file(name) for part in parts if name in listed_files(part.reader.head)]
        if load is not None and paths:
            check_free(workspace, name)
            workspace.note_file(name, RUN)
            files[name] = checksum(merge_gathered(paths, load, workspace.path / "merge.part", is_part=False))
            (workspace.path / "merge.part").replace(workspace.folder / name)
    return files


def _merge_decisions(one: dict[str, Any], other: dict[str, Any], part: ShardPart) -> dict[str, Any]:
    """Return what sinks have decided in several shards. Raises OutputError for different decisions."""
    merged = dict(one)
    for name, value in other.items():
        known = merged.setdefault(name, value)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[name] = _merge_decisions(known, value, part)
        elif known != value:
            raise OutputError(
                f"a sink has chosen differently for {name} in shard {part.shard} than in a shard before it, since the "
                "first image of the run does not have it; run without shards, or with a sink that does not choose by "
                "images, such as sheet:pick=spread"
            )
    return merged


def _entries(parts: Sequence[ShardPart]) -> Iterator[bytes]:
    """Yield the entries of all images in the order of their numbers: those of a shard follow each other."""
    for part in parts:
        for _, entry in part.reader.numbered_entries():
            yield entry
