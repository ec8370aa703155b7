"""Puts the shards of a run together: one folder, with the files and the manifest of a run that was never divided."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.interrupts import watch_interrupts
from surgery.output.checksums import checksum
from surgery.output.failures import Failure
from surgery.output.gathered import check_free
from surgery.output.gathering import merge_gathered
from surgery.output.linking import link_files
from surgery.output.manifest_entries import summary_entry
from surgery.output.manifest_reader import (
    ManifestReader,
    folder_contents,
    has_manifest,
    listed_files,
    listed_page_files,
)
from surgery.output.manifest_writer import write_manifest
from surgery.output.notes import Notes, format_notes, merge_notes
from surgery.output.page_writer import write_page
from surgery.output.recovery import acquire_workspace
from surgery.output.report import Report
from surgery.output.run_identity import find_difference
from surgery.output.shards import SHARD, Shard
from surgery.output.tally import Tally
from surgery.output.workspace import RUN
from surgery.text import WORK_FOLDER, abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from surgery.output.gathered import Loader
    from surgery.output.workspace import Workspace

_RESULTS = ("check", "notes", "operations", "failed", "interrupted", "error", "files", "crc32", "stores", "progress")
"""The keys of a manifest's head that say what a run did, not what it is."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A shard on the disk."""

    shard: Shard
    reader: ManifestReader

    @property
    def folder(self) -> Path:
        return self.reader.folder


def merge_shards(
    *folders: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    find_loader: Callable[[str], Loader | None] = lambda _: None,
) -> Report:
    """Put the shards of a run together, and return the report of the whole run.

    - `folders`: The folders of the shards, or folders that hold them. All shards of the run must be there, finished.
    - `out`: The folder of the whole run; by default the one that holds all shards.
    - `overwrite`: Whether to replace a run in that folder.
    - `find_loader`: Returns what reads a file of what a sink has gathered, by the name of the file; None if it is not
      known.

    Files and manifest are, byte for byte, those of `surgery.extract` without `shard`. The files are hard links to
    those of the shards where the file system has them, and copies elsewhere, so the shards can be removed afterwards.
    The manifest appears last. What a merge that was killed has left is removed by the same call, which begins anew.

    Raises OutputError if a shard is missing, there twice, not finished or of another run; for files that belong to
    several images and are not the same in all shards; for what the shards have decided differently; and if the folder
    can't be written.
    """
    started = time.perf_counter()
    parts = _find_parts([Path(folder) for folder in folders])
    target = _choose_target(parts) if out is None else Path(out)
    for part in parts:
        if os.path.realpath(part.folder) == os.path.realpath(target):
            raise OutputError(f"{target} is a shard itself; merge into another folder (-o FOLDER, out=)")
    find_loader = cache(find_loader)
    tally, failures, notes = _add_up(parts, find_loader)
    head = {name: value for name, value in parts[0].reader.head.items() if name not in (*_RESULTS, SHARD)}
    content = head | ({"check": tally.check} if tally.check else {})
    content |= {"notes": format_notes(notes)} if notes else {}
    content["operations"] = [summary_entry(summary) for summary in tally.ordered_summaries()]
    content |= {"failed": [asdict(failure) for failure in failures], "interrupted": False}
    with watch_interrupts(held=True) as interrupts, acquire_workspace(target, overwrite=overwrite) as workspace:
        interrupts.allow()
        workspace.open_journal()
        files = link_files([part.reader for part in parts], workspace, min(tally.finished), tally.gathered)
        gathered = _merge_gathered(parts, workspace, {name: find_loader(name) for name in tally.gathered})
        interrupts.hold()
        write_manifest(workspace, content, tally, tally.common_files | gathered, entries=_entries(parts))
        workspace.is_recorded = True
    has_page = any(True for part in parts for _ in listed_page_files(part.folder))
    overview = None if tally.overview is None else target / tally.overview[1]
    return Report(
        folder=target,
        images=len(tally.finished),
        files=files + len(gathered) + 1,
        failed=tuple(failures),
        summaries=tally.ordered_summaries(),
        seconds=time.perf_counter() - started,
        notes=format_notes(notes),
        overview=write_page(target) if has_page else overview,
        not_reached=tally.not_reached,
    )


def _find_parts(folders: Sequence[Path]) -> list[_Part]:
    """Return the shards of a run in order. Raises OutputError if they are not all of them, each once and finished."""
    found = {os.path.realpath(part.folder): part for folder in folders for part in _parts_in(folder)}
    if not found:
        raise OutputError("no folder was named; name those of the shards, or the folder that holds them")
    parts = sorted(found.values(), key=lambda part: part.shard.number)
    first = parts[0]
    for part, before in zip(parts[1:], parts, strict=False):
        if part.shard.count != first.shard.count:
            raise OutputError(
                f"{first.folder} is shard {first.shard}, and {part.folder} is shard {part.shard}; name the shards of "
                "one run"
            )
        if part.shard.number == before.shard.number:
            raise OutputError(f"shard {part.shard} is there twice: {before.folder} and {part.folder}; name one of them")
        heads = [{name: value for name, value in each.reader.head.items() if name != SHARD} for each in (part, first)]
        if (difference := find_difference(heads[0], heads[1], f"{first.folder}")) is not None:
            raise OutputError(f"{part.folder} is of another run than {first.folder}: {difference}")
    for part in parts:
        if part.reader.head.get("interrupted") is not False or (part.folder / WORK_FOLDER).exists():
            raise OutputError(
                f"shard {part.shard} in {part.folder} is not finished; the command that began it goes on with it"
            )
    if missing := sorted({*range(1, first.shard.count + 1)} - {part.shard.number for part in parts}):
        verb = "shard {} of {} is" if len(missing) == 1 else "shards {} of {} are"
        which = verb.format(abbreviate_list([str(number) for number in missing]), first.shard.count)
        raise OutputError(f"{which} missing; run what is missing, or name its folder too")
    return parts


def _parts_in(folder: Path) -> list[_Part]:
    """Return the shard that a folder is, or those that it holds. Raises OutputError if there is none."""
    if (part := _read_part(folder)) is not None:
        return [part]
    parts = [part for each in folder_contents(folder) if (part := _read_part(each)) is not None]
    if not parts:
        raise OutputError(f"{folder} holds no shard of a run, which `surgery extract --shard k/n` (shard=) writes")
    return parts


def _read_part(folder: Path) -> _Part | None:
    """Return the shard that a folder is; None for any other folder."""
    if not has_manifest(folder):
        return None
    reader = ManifestReader(folder)
    shard = Shard.from_head(reader.head)
    return None if shard is None else _Part(shard, reader)


def _choose_target(parts: Sequence[_Part]) -> Path:
    """Return the folder that holds all shards. Raises OutputError if they are in several."""
    homes = {os.path.realpath(part.folder.parent): part.folder.parent for part in parts}
    if len(homes) > 1:
        raise OutputError(
            f"the shards are in {len(homes)} folders, such as {parts[0].folder} and {parts[-1].folder}; say where to "
            "merge them to: -o FOLDER (out=)"
        )
    return next(iter(homes.values()))


def _add_up(parts: Sequence[_Part], find_loader: Callable[[str], Loader | None]) -> tuple[Tally, list[Failure], Notes]:
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
            raise OutputError(f"{part.reader.path} is damaged; run its shard again with --overwrite") from error
    if not tally.finished:
        raise OutputError("no image was finished in any shard; their manifests say why")
    tally.shared, tally.machine_stopped = shared, False
    merge_notes(notes, tally.notes)
    return tally, sorted(failures, key=lambda failure: failure.number), notes


def _check_run_files(part: _Part, own: Tally, before: Tally, find_loader: Callable[[str], Loader | None]) -> None:
    """Raise OutputError for files of the whole shard, but for those that are the same in all shards or are merged."""
    common = own.common_files
    for name in (*listed_files(part.reader.head), *part.reader.stores()):
        if name in own.gathered and find_loader(name) is None:
            raise OutputError(
                f"{part.folder / name} was gathered by a sink that no plugin offers; merge in Python, where "
                "surgery.merge(..., sinks=[...]) takes the sink"
            )
        is_same = name in common and before.common_files.get(name, common[name]) == common[name]
        if not is_same and name not in own.gathered:
            raise OutputError(
                f"{part.folder / name} belongs to all images of its shard, and can't be merged; run without "
                "shards, or without the sink that writes it"
            )


def _merge_gathered(
    parts: Sequence[_Part], workspace: Workspace, loaders: Mapping[str, Loader | None]
) -> dict[str, str]:
    """Write the files of what sinks have gathered in all shards. Return them with their checksums."""
    files: dict[str, str] = {}
    for name, load in loaders.items():
        paths = [part.folder / name for part in parts if name in listed_files(part.reader.head)]
        if load is not None and paths:
            check_free(workspace, name)
            workspace.note_file(name, RUN)
            files[name] = checksum(merge_gathered(paths, load, workspace.path / "merge.part", is_part=False))
            (workspace.path / "merge.part").replace(workspace.folder / name)
    return files


def _merge_decisions(one: dict[str, Any], other: dict[str, Any], part: _Part) -> dict[str, Any]:
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


def _entries(parts: Sequence[_Part]) -> Iterator[bytes]:
    """Yield the entries of all images in the order of their numbers: those of a shard follow each other."""
    for part in parts:
        for _, entry in part.reader.numbered_entries():
            yield entry
