"""Finds the shards of a run, in folders of this machine or at addresses, and checks that they are all of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.addresses import address_identity
from surgery.errors import OutputError
from surgery.output.address import Address
from surgery.output.locks import lock_holder
from surgery.output.manifest_reader import ManifestReader, folder_contents, has_manifest, is_inside
from surgery.output.remote_folder import RemoteFolder
from surgery.output.run_identity import find_difference
from surgery.output.shards import SHARD, Shard, is_shard_name
from surgery.text import MANIFEST_FILE, WORK_FOLDER, abbreviate_list, natural_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from surgery.output.address import Place


@dataclass(frozen=True, slots=True, eq=False)
class ShardPart:
    """A shard that is there."""

    shard: Shard
    place: Place
    """Where it is."""
    reader: ManifestReader
    """Reads its manifest: in its folder, or in a local one with a copy of the manifest that is at its address."""

    @property
    def is_local(self) -> bool:
        """Whether it is in a folder of this machine."""
        return isinstance(self.place, Path)

    def local_file(self, name: str) -> Path:
        """Return the path of one of its files, which is copied from its address before. It may not exist."""
        file = self.reader.folder / name
        if isinstance(self.place, Address):
            RemoteFolder(self.place).fetch(name, file)
        return file

    def check_files(self, names: Sequence[str]) -> None:
        """Raise OutputError for names that lead out of the shard, and for files of a local one that are missing."""
        known = {*(self.reader.existing(names) if self.is_local else filter(is_inside, names))}
        for name in names:
            if name not in known:
                raise self.explain_missing(name)
            if name == MANIFEST_FILE:
                raise OutputError(f"{self.reader.shown} is damaged; run its shard again with --overwrite")

    def explain_missing(self, name: str) -> OutputError:
        """Return the error for a file that its manifest lists and that can't be had."""
        return OutputError(
            f"{self.place / name} is missing, or no file inside its folder; run shard {self.shard} again with "
            "--overwrite"
        )


def find_parts(places: Sequence[Place], scratch: Path) -> list[ShardPart]:
    """Return the shards of a run in order. `scratch` is a folder for the manifests of those at addresses.

    Raises OutputError if they are not all of them, each once and finished, or if one can't be read.
    """
    found = {identify(part.place): part for place in places for part in _parts_in(place, scratch)}
    if not found:
        raise OutputError("no folder was named; name those of the shards, or the folder that holds them")
    parts = sorted(found.values(), key=lambda part: part.shard.number)
    first = parts[0]
    for part, before in zip(parts[1:], parts, strict=False):
        if part.shard.count != first.shard.count:
            raise OutputError(
                f"{first.place} is shard {first.shard}, and {part.place} is shard {part.shard}; name the shards of "
                "one run"
            )
        if part.shard.number == before.shard.number:
            raise OutputError(f"shard {part.shard} is there twice: {before.place} and {part.place}; name one of them")
        heads = [{name: value for name, value in each.reader.head.items() if name != SHARD} for each in (part, first)]
        if (difference := find_difference(heads[0], heads[1], f"{first.place}")) is not None:
            raise OutputError(f"{part.place} is of another run than {first.place}: {difference}")
    for part in parts:
        name = f"shard {part.shard} in {part.place}"
        _check_finished(part.place, name)
        if part.reader.head.get("interrupted") is not False:
            raise OutputError(f"{name} is not finished; the command that began it goes on with it")
    if missing := sorted({*range(1, first.shard.count + 1)} - {part.shard.number for part in parts}):
        verb = "shard {} of {} is" if len(missing) == 1 else "shards {} of {} are"
        which = verb.format(abbreviate_list([str(number) for number in missing]), first.shard.count)
        raise OutputError(f"{which} missing; run what is missing, or name its folder too")
    return parts


def identify(place: Place) -> str:
    """Return what tells a folder or an address from others."""
    return address_identity(place.text) if isinstance(place, Address) else os.path.realpath(place)


def home_of(parts: Sequence[ShardPart]) -> Place:
    """Return the folder or the address that holds all shards. Raises OutputError if they are in several."""
    homes = {identify(part.place.parent): part.place.parent for part in parts}
    if len(homes) > 1:
        raise OutputError(
            f"the shards are in {len(homes)} folders, such as {parts[0].place} and {parts[-1].place}; say where to "
            "merge them to: -o FOLDER (out=)"
        )
    return next(iter(homes.values()))


def _check_finished(place: Place, name: str) -> None:
    """Raise OutputError if a run still writes to a shard, or has left something there for the next one to do.

    `name` is what the message calls the shard.
    """
    if isinstance(place, Address):
        left = RemoteFolder(place).names(WORK_FOLDER)
    else:
        work = place / WORK_FOLDER
        if holder := lock_holder(work / "lock"):
            raise OutputError(f"a run writes to {place} ({holder}); merge when that is done")
        left = [path.name for path in work.iterdir() if path.name != "lock"] if work.is_dir() else []
    if left:
        raise OutputError(f"{name} is not finished; the command that began it goes on with it")


def _parts_in(place: Place, scratch: Path) -> Iterable[ShardPart]:
    """Return the shard that a place is, or those that it holds. Raises OutputError if there is none."""
    if (part := _read_part(place, scratch)) is not None:
        return [part]
    parts: list[ShardPart] = []
    for each in _places_in(place):
        if (part := _read_part(each, scratch)) is not None:
            parts.append(part)
        elif is_shard_name(each.name):  # which may have begun
            _check_finished(each, f"{each}")
    if not parts:
        raise OutputError(f"{place} holds no shard of a run, which `surgery extract --shard k/n` (shard=) writes")
    return parts


def _places_in(place: Place) -> Iterator[Place]:
    """Yield the places in a place in which a shard may be; at an address those alone that are called like one."""
    if isinstance(place, Address):
        names = sorted(RemoteFolder(place).names(), key=natural_key)
        yield from (place / name for name in names if is_shard_name(name))
    else:
        yield from folder_contents(place)


def _read_part(place: Place, scratch: Path) -> ShardPart | None:
    """Return the shard that is in a place; None for what is none."""
    folder = _copy_manifest(place, scratch) if isinstance(place, Address) else place
    if folder is None or not has_manifest(folder):
        return None
    reader = ManifestReader(folder, place)
    shard = Shard.from_head(reader.head)
    return None if shard is None else ShardPart(shard, place, reader)


def _copy_manifest(address: Address, scratch: Path) -> Path | None:
    """Copy the manifest at an address to a folder of its own, and return that; None if there is no manifest."""
    folder = scratch / str(sum(1 for _ in scratch.iterdir()))
    folder.mkdir()
    return folder if RemoteFolder(address).fetch(MANIFEST_FILE, folder / MANIFEST_FILE) else None
