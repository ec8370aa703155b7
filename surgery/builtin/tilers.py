"""The tilers that come with the project: how the channels of an activation lie in a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from surgery.drawing import LABEL_HEIGHT, MAX_MEGAPIXELS, MAX_SIDE, tile_codes
from surgery.errors import RenderError
from surgery.stages import TileLayout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.stages import Tiler

LABELED_SIDE = 32
"""Pixels of a map's longer side, at least, if it has a label."""
MIN_SIDE = 16
"""Maps smaller than this, in pixels, are enlarged by a whole factor until they reach it."""


@dataclass(frozen=True, slots=True)
class Grid:
    """All channels in one near-square picture, row by row, channel 0 at the top left."""

    columns: int | None = None
    """Tiles in a row; None for as many as make the picture nearest to a square."""
    gap: int = 1
    """Pixels of background between tiles."""
    limit: int | None = None
    """Draw the first so many channels alone."""
    least: int = MIN_SIDE
    """Smaller maps are enlarged by a whole factor, without smoothing, until their longer side has so many pixels."""
    megapixels: int = MAX_MEGAPIXELS
    """Of a picture, at most: what has more goes into several pictures, in order of the channels."""
    labels: bool = False
    """Write its number above each channel, and a scale bar below them all."""

    def __post_init__(self) -> None:
        _check("columns", self.columns, 1)
        _check("gap", self.gap, 0)
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)
        _check("megapixels", self.megapixels, 1)

    def __call__(self, levels: Tensor, /) -> Tensor:
        return self.draw_labels(levels) if self.labels else tile_codes(levels, self.plan(*levels.shape[1:]))[..., 1:]

    def draw_labels(
        self, levels: Tensor, low: NDArray[np.float64] | None = None, high: NDArray[np.float64] | None = None, /
    ) -> Tensor:
        """The pictures with the numbers of their channels, and a scale bar for limits ``(C,)``."""
        from surgery.drawing import draw_labels

        return draw_labels(levels, self.plan(*levels.shape[1:]), low, high)

    def layout(self, channels: int, height: int, width: int, /) -> TileLayout | None:
        """That of `plan`; None where there are labels beside the maps."""
        return None if self.labels else self.plan(channels, height, width)

    def plan(self, channels: int, height: int, width: int, /) -> TileLayout:
        """Of near-square pictures, where no number of columns is asked for."""
        shown = min(channels, self.limit or channels)
        factor = _enlargement(height, width, max(self.least, LABELED_SIDE) if self.labels else self.least)
        tall, wide = height * factor + self.gap, width * factor + self.gap
        tall += LABEL_HEIGHT if self.labels else 0
        most = self.megapixels * 1_000_000 // (tall * wide)
        if self.columns is not None:
            most = min(most, self.columns * max(1, MAX_SIDE // tall))
        tiles, columns = shown, shown
        for pictures in range(1, shown + 1):
            tiles = math.ceil(shown / pictures)
            columns = min(self.columns or _square_columns(tiles, tall, wide), tiles)
            if columns * math.ceil(tiles / columns) <= most:
                break
        return TileLayout(shown, tiles, columns, factor, self.gap, uneven=shown % tiles > 0)


@dataclass(frozen=True, slots=True)
class Strip:
    """All channels in one row."""

    gap: int = 1
    limit: int | None = None
    least: int = MIN_SIDE
    megapixels: int = MAX_MEGAPIXELS
    """Of a picture, at most: what has more goes into several rows, each a picture."""

    def __post_init__(self) -> None:
        _check("gap", self.gap, 0)
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)
        _check("megapixels", self.megapixels, 1)

    def __call__(self, levels: Tensor, /) -> Tensor:
        return tile_codes(levels, self.layout(*levels.shape[1:]))[..., 1:]

    def layout(self, channels: int, height: int, width: int, /) -> TileLayout:
        """Of one row."""
        shown = min(channels, self.limit or channels)
        factor = _enlargement(height, width, self.least)
        tall, wide = height * factor, width * factor + self.gap
        tiles = _tiles_per_picture(shown, min(self.megapixels * 1_000_000 // (tall * wide), MAX_SIDE // wide))
        return TileLayout(shown, tiles, tiles, factor, self.gap, uneven=shown % tiles > 0)


@dataclass(frozen=True, slots=True)
class Channels:
    """A picture for each channel."""

    limit: int | None = None
    least: int = MIN_SIDE

    def __post_init__(self) -> None:
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)

    def __call__(self, levels: Tensor, /) -> Tensor:
        return tile_codes(levels, self.layout(*levels.shape[1:]))[..., 1:]

    def layout(self, channels: int, height: int, width: int, /) -> TileLayout:
        """Of pictures of one map."""
        shown = min(channels, self.limit or channels)
        return TileLayout(shown, 1, 1, _enlargement(height, width, self.least))


def _tiles_per_picture(count: int, most: int) -> int:
    """How many of `count` maps go into each of as few pictures as can be, of at most so many."""
    return math.ceil(count / math.ceil(count / max(1, most)))


@lru_cache(maxsize=256)  # since the maps of a model have few sizes
def _enlargement(height: int, width: int, least: int) -> int:
    return max(1, math.ceil(least / max(height, width, 1)))


@lru_cache(maxsize=256)
def _square_columns(count: int, tall: int, wide: int) -> int:
    """Columns for the picture whose sides are nearest to each other."""
    ideal = min(count, max(1, math.floor(math.sqrt(count * tall / wide))))
    near = range(max(1, ideal - 1), min(count, ideal + 2) + 1)
    return min(near, key=lambda columns: (abs(math.log(columns * wide / (math.ceil(count / columns) * tall))), columns))


def _check(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise RenderError(f"{name} is at least {least}, not {value}")


TILERS: dict[str, Tiler] = {"grid": Grid(), "strip": Strip(), "channels": Channels()}
