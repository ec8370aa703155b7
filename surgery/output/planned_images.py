"""The images that a run is to do, as sinks know them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.text import LazySequence, escape_surrogates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.text import ImageNames


@dataclass(frozen=True, slots=True, eq=False)
class PlannedImages:
    """All images of a run, those of its other shards too, in order. The number of an image is its place here."""

    names: ImageNames
    """Those of their folders, each different."""
    sources: Sources
    batch_size: int
    """The most images of a batch. No batch has images of two groups of so many images, counted from the first."""

    def number_of(self, name: str) -> int:
        """Return the number of the image with this name. Raises KeyError if there is none."""
        number = self.names.find_number(name)
        if number is None:
            raise KeyError(name)
        return number


class Sources(LazySequence[str]):
    """The paths or addresses of images, as text that UTF-8 can encode."""

    def __init__(self, sources: Sequence[object]) -> None:
        self._sources = sources

    def __len__(self) -> int:
        return len(self._sources)

    def item(self, number: int) -> str:
        """Return the path or address of the image with a number."""
        return escape_surrogates(str(self._sources[number]))
