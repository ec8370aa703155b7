"""Shards: the parts of a run that are done apart, each in a folder of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.output.address import Address
from surgery.output.remote_folder import RemoteFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.output.address import Place

SHARD = "shard"
"""The key of the head of a manifest that is of a part of a run."""
_FOLDER = re.compile(r"shard-\d+-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the parts of a run. Raises OutputError for numbers out of range."""

    number: int
    """From 1."""
    count: int
    """How many parts the run has."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise OutputError(
                f"a shard is k of n, with k from 1 to n, such as 2/8 (shard=(2, 8)); not {self.number}/{self.count}"
            )

    def __str__(self) -> str:
        return f"{self.number} of {self.count}"

    @classmethod
    def from_head(cls, head: Mapping[str, Any]) -> Shard | None:
        """Return the shard that a manifest is of; None if it is of a whole run, or damaged."""
        entry = head.get(SHARD)
        if not isinstance(entry, dict):
            return None
        number, count = entry.get("number"), entry.get("of")
        if not (isinstance(number, int) and isinstance(count, int) and 1 <= number <= count):
            return None
        return cls(number, count)

    def entry(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {"number": self.number, "of": self.count}

    def images(self, total: int, batch_size: int) -> range:
        """Return the numbers of its images: whole batches that follow each other. None may be left for it."""
        batches = -(-total // batch_size)
        first, end = (batches * number // self.count for number in (self.number - 1, self.number))
        return range(first * batch_size, min(end * batch_size, total))

    def folder_in(self, out: Place, *, overwrite: bool) -> Place:
        """Return the folder of the shard in that of the run.

        Raises OutputError if that holds shards of another number of parts, unless `overwrite` is true.
        """
        folder: Place = out / f"shard-{self.number:0{len(str(self.count))}}-of-{self.count}"
        for other in () if overwrite else _folder_names(out):
            found = _FOLDER.fullmatch(other)
            if found is not None and int(found[1]) != self.count:
                raise OutputError(
                    f"{out} holds {other}, and this is shard {self}; name the shard by its number, such as "
                    f"--shard 1/{int(found[1])} (shard=(1, {int(found[1])})), or write to another folder"
                )
        return folder


def is_shard_name(name: str) -> bool:
    """Return whether a folder of this name is that of a shard."""
    return _FOLDER.fullmatch(name) is not None


def locate_shard(shard: tuple[int, int] | None, out: Place, *, overwrite: bool) -> tuple[Shard | None, Place]:
    """Return the part of a run that is asked for, None for all of it, and the folder that it is written to.

    Raises OutputError for numbers out of range, and for a folder with shards of another number of parts.
    """
    if shard is None:
        return None, out
    part = Shard(*shard)
    return part, part.folder_in(out, overwrite=overwrite)


def _folder_names(out: Place) -> list[str]:
    """Return the names in a folder or at an address; none if it doesn't exist."""
    if isinstance(out, Address):
        return RemoteFolder(out).names()
    return [path.name for path in out.glob("shard-*-of-*")]
