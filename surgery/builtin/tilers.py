"""The tilers that come with the project: they arrange the channels of an activation in pictures."""

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
"""Smaller maps are enlarged by a whole factor until their longer side has this many pixels."""


@dataclass(frozen=True, slots=True)
class Grid:
    """All channels in one near-square picture, row by row, channel 0 at the top left."""

    columns: int | None = None
    """Tiles in a row; None for the number that makes the picture nearest to a square."""
    gap: int = 1
    """Pixels of background between tiles."""
    limit: int | None = None
    """Draw only this many channels, from the first."""
    least: int = MIN_SIDE
    """Smaller maps are enlarged by a whole factor, without smoothing, until their longer side has this many pixels."""
    megapixels: int = MAX_MEGAPIXELS
    """The most megapixels of a picture; more channels go into several pictures, in order."""
    labels: bool = False
    """Write the number of each channel above it, and draw a scale bar below all channels."""

    def __post_init__(self) -> None:
        _check("columns", self.columns, 1)
        _check("gap", self.gap, 0)
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)
        _check("megapixels", self.megapixels, 1)

    def __call__(self, codes: Tensor, /) -> Tensor:
        return self.draw_labels(codes) if self.labels else tile_codes(codes, self.plan(*codes.shape[1:]))[..., 1:]

    def draw_labels(
        self, codes: Tensor, low: NDArray[np.float64] | None = None, high: NDArray[np.float64] | None = None, /
    ) -> Tensor:
        """Return the pictures with the numbers of their channels, and with a scale bar for limits ``(C,)``."""
        from surgery.drawing import draw_labels

        return draw_labels(codes, self.plan(*codes.shape[1:]), low, high)

    def layout(self, channels: int, height: int, width: int, /) -> TileLayout | None:
        """Return the layout of the pictures; None if labels are drawn, which a layout can't describe."""
        return None if self.labels else self.plan(channels, height, width)

    def plan(self, channels: int, height: int, width: int, /) -> TileLayout:
        """Return the layout with labels or without; near-square pictures if `columns` is None."""
        count = min(channels, self.limit or channels)
        factor = _enlargement(height, width, max(self.least, LABELED_SIDE) if self.labels else self.least)
        tile_height, tile_width = height * factor + self.gap, width * factor + self.gap
        tile_height += LABEL_HEIGHT if self.labels else 0
        max_tiles = self.megapixels * 1_000_000 // (tile_height * tile_width)
        if self.columns is not None:
            max_tiles = min(max_tiles, self.columns * max(1, MAX_SIDE // tile_height))
        tiles, columns = count, count
        for pictures in range(1, count + 1):
            tiles = math.ceil(count / pictures)
            columns = min(self.columns or _square_columns(tiles, tile_height, tile_width), tiles)
            if columns * math.ceil(tiles / columns) <= max_tiles:
                break
        return TileLayout(count, tiles, columns, factor, self.gap, uneven=count % tiles > 0)


@dataclass(frozen=True, slots=True)
class Strip:
    """All channels in one row."""

    gap: int = 1
    limit: int | None = None
    least: int = MIN_SIDE
    megapixels: int = MAX_MEGAPIXELS
    """The most megapixels of a picture; more channels go into several pictures of one row."""

    def __post_init__(self) -> None:
        _check("gap", self.gap, 0)
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)
        _check("megapixels", self.megapixels, 1)

    def __call__(self, codes: Tensor, /) -> Tensor:
        return tile_codes(codes, self.layout(*codes.shape[1:]))[..., 1:]

    def layout(self, channels: int, height: int, width: int, /) -> TileLayout:
        """Return the layout of pictures with one row."""
        count = min(channels, self.limit or channels)
        factor = _enlargement(height, width, self.least)
        tile_height, tile_width = height * factor, width * factor + self.gap
        max_tiles = min(self.megapixels * 1_000_000 // (tile_height * tile_width), MAX_SIDE // tile_width)
        tiles = _tiles_per_picture(count, max_tiles)
        return TileLayout(count, tiles, tiles, factor, self.gap, uneven=count % tiles > 0)


@dataclass(frozen=True, slots=True)
class Channels:
    """One picture for each channel."""

    limit: int | None = None
    least: int = MIN_SIDE

    def __post_init__(self) -> None:
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)

    def __call__(self, codes: Tensor, /) -> Tensor:
        return tile_codes(codes, self.layout(*codes.shape[1:]))[..., 1:]

    def layout(self, channels: int, height: int, width: int, /) -> TileLayout:
        """Return the layout of pictures with one map."""
        count = min(channels, self.limit or channels)
        return TileLayout(count, 1, 1, _enlargement(height, width, self.least))


def _tiles_per_picture(count: int, max_tiles: int) -> int:
    """Return how many of `count` maps to put into each picture, for the fewest pictures of at most `max_tiles`."""
    return math.ceil(count / math.ceil(count / max(1, max_tiles)))


@lru_cache(maxsize=256)  # the maps of a model have few sizes
def _enlargement(height: int, width: int, least: int) -> int:
    return max(1, math.ceil(least / max(height, width, 1)))


@lru_cache(maxsize=256)
def _square_columns(count: int, tile_height: int, tile_width: int) -> int:
    """Return the number of columns for which the picture is nearest to a square."""
    ideal = min(count, max(1, math.floor(math.sqrt(count * tile_height / tile_width))))
    near = range(max(1, ideal - 1), min(count, ideal + 2) + 1)

    def distance_from_square(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(columns * tile_width / (rows * tile_height)))

    return min(near, key=lambda columns: (distance_from_square(columns), columns))


def _check(name: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise RenderError(f"{name} is at least {least}, not {value}")


TILERS: dict[str, Tiler] = {"grid": Grid(), "strip": Strip(), "channels": Channels()}
