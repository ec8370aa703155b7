"""The tilers that come with the project: how the channels of an activation lie in a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from surgery.errors import RenderError
from surgery.types import BACKGROUND

try:
    from surgery import _kernels
except ImportError:  # no compiler was there on installation: torch does the same
    _kernels = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.types import Tiler

LEAST = 16
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
    least: int = LEAST
    """Smaller maps are enlarged by a whole factor, without smoothing, until their longer side has so many pixels."""

    def __post_init__(self) -> None:
        _check("columns", self.columns, 1)
        _check("gap", self.gap, 0)
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)

    def __call__(self, levels: Tensor, /) -> Tensor:
        return self.lines(levels)[..., 1:]

    def lines(self, levels: Tensor, /) -> Tensor:
        """The pictures, ``(B, N, H', 1 + W')``, with a zero before each of their lines."""
        shown = levels[:, : self.limit]
        count, height, width = shown.shape[1:]
        factor = _enlargement(height, width, self.least)
        tall, wide = height * factor + self.gap, width * factor + self.gap
        columns = min(self.columns or _square_columns(count, tall, wide), count)
        return _lay(shown, columns, factor, self.gap)


@dataclass(frozen=True, slots=True)
class Strip:
    """All channels in one row."""

    gap: int = 1
    limit: int | None = None
    least: int = LEAST

    def __post_init__(self) -> None:
        _check("gap", self.gap, 0)
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)

    def __call__(self, levels: Tensor, /) -> Tensor:
        return self.lines(levels)[..., 1:]

    def lines(self, levels: Tensor, /) -> Tensor:
        """The pictures, ``(B, N, H', 1 + W')``, with a zero before each of their lines."""
        shown = levels[:, : self.limit]
        return _lay(shown, shown.shape[1], _enlargement(shown.shape[2], shown.shape[3], self.least), self.gap)


@dataclass(frozen=True, slots=True)
class Channels:
    """A picture for each channel."""

    limit: int | None = None
    least: int = LEAST

    def __post_init__(self) -> None:
        _check("limit", self.limit, 1)
        _check("least", self.least, 1)

    def __call__(self, levels: Tensor, /) -> Tensor:
        return self.lines(levels)[..., 1:]

    def lines(self, levels: Tensor, /) -> Tensor:
        """The pictures, ``(B, N, H', 1 + W')``, with a zero before each of their lines."""
        shown = levels[:, : self.limit]
        batch, count, height, width = shown.shape
        factor = _enlargement(height, width, self.least)
        tiles = _lay(shown.reshape(batch * count, 1, height, width), 1, factor, 0)
        return tiles.reshape(batch, count, *tiles.shape[2:])


def _lay(levels: Tensor, columns: int, factor: int, gap: int) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, 1, H', 1 + W')``: laid on a canvas of background, with a zero before each line."""
    if _kernels is None or levels.device.type != "cpu" or not levels.numel():
        return _lay_by_torch(levels, columns, factor, gap)
    batch, count, height, width = levels.shape
    lines = math.ceil(count / columns) * (height * factor + gap) - gap
    canvas = levels.new_empty((batch, 1, lines, 1 + columns * (width * factor + gap) - gap))
    shape = (batch, count, height, width)
    _kernels.lay(levels.contiguous().numpy(), canvas.numpy(), *shape, columns, factor, gap, BACKGROUND)
    return canvas


def _lay_by_torch(levels: Tensor, columns: int, factor: int, gap: int) -> Tensor:
    batch, count, height, width = levels.shape
    rows, full = math.ceil(count / columns), count // columns
    tall, wide = height * factor + gap, width * factor + gap
    lines = levels.new_empty((batch, 1, rows * tall, 1 + columns * wide))
    lines[..., 0] = 0
    canvas = lines[:, 0, :, 1:].unflatten(2, (columns, wide)).unflatten(1, (rows, tall))
    canvas[:, :, height * factor :] = BACKGROUND
    canvas[..., width * factor :] = BACKGROUND
    canvas[:, full:, :, count - full * columns :] = BACKGROUND
    if factor > 1:
        levels = levels.repeat_interleave(factor, 3)
    # A tile is cells[:, row, :, :, column], each of its lines `factor` times.
    cells = canvas[:, :, : height * factor, :, : width * factor].unflatten(2, (height, factor))
    if full:
        tiles = levels[:, : full * columns].unflatten(1, (full, columns)).transpose(2, 3)
        cells[:, :full].copy_(tiles.unsqueeze(3).expand_as(cells[:, :full]))
    if rest := count - full * columns:
        last = cells[:, full, :, :, :rest]
        last.copy_(levels[:, full * columns :].transpose(1, 2).unsqueeze(2).expand_as(last))
    return lines[:, :, : rows * tall - gap, : 1 + columns * wide - gap]


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
