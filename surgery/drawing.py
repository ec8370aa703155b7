"""The pictures of a batch, made step by step when they are asked for: extremes, limits, codes, tiles."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.errors import RenderError
from surgery.facts import Extremes, Seen, statistics_of
from surgery.fetching import Fetched
from surgery.loading import said_of
from surgery.palettes import NOT_VALUES, palette_of
from surgery.quantising import (
    as_maps,
    check_limits,
    compiled_for,
    find_limits,
    mark_not_finite,
    quantise,
    quantise_between_extremes,
    repair,
)
from surgery.tiling import can_be_written_to, lay, layout_of, taken_up
from surgery.transforming import colored, in_color, transformed
from surgery.types import BACKGROUND, Facts, Levels, Picture, describe, shortcut

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.types import Layout, Limits, Normalizer, Recipe


class BatchDrawing:
    """Draws ``(B, ...)`` values for all who ask: each step is done once for the batch, and none before it is needed."""

    def __init__(self, values: Tensor, recipe: Recipe, *, windows: bool = False) -> None:
        self.recipe = recipe
        self.windows = windows
        self.batch = values.shape[0]
        self.folded = values.ndim == 2
        self._values: Tensor | None = values
        self._drawn: tuple[int, tuple[Picture, ...]] | None = None

    def levels(self, position: int, /) -> Levels:
        if self._empty:
            channels, height, width = self._shape[1:]
            low, high = np.zeros((2, channels))
            return Levels(np.zeros((channels, height, width), np.uint8), low, high)
        low, high = self._codes.limits()
        return Levels(self._codes.indices(position), low[position], high[position])

    def pictures(self, position: int, /) -> tuple[Picture, ...]:
        # Kept for the next sink that asks, and no longer: a batch of them would leave the cache, and come back.
        if self._drawn is None or self._drawn[0] != position:
            self._drawn = position, () if self._empty else self._draw(position)
        return self._drawn[1]

    def facts(self, position: int, /) -> Facts:
        return self._facts[position]

    def settle(self, *, pixels: bool) -> int:
        if self._values is None:
            return 0
        if pixels:
            self._quantise_at_once()
        self._seen  # noqa: B018 - made when it is asked for
        if pixels and not self._empty:
            self._codes  # noqa: B018
        self._values = None
        self.__dict__.pop("_maps", None)
        codes = self.__dict__.get("_codes")  # for a sink that was called at once, perhaps
        return codes.nbytes if codes is not None else 0

    def _quantise_at_once(self) -> None:
        """Find extremes and codes together, where the limits are the extremes, and neither was asked for yet."""
        normalizer = self.recipe.normalizer
        if self.recipe.transforms or not shortcut(normalizer, "are_extremes"):
            return
        if "_extremes" in self.__dict__ or "_codes" in self.__dict__:
            return
        layout = self._written_to(self._maps)
        found = quantise_between_extremes(self._maps, layout)
        if found is not None:
            extremes, codes = found
            raw = torch.from_numpy(extremes)
            self._extremes = Extremes(raw, raw, None, finite=True)
            limits = extremes.astype(np.float64)
            self._codes = _Codes(normalizer, limits, lambda: codes, self._shape, layout, checked=True)

    @cached_property
    def _maps(self) -> Tensor:
        if self._values is None:
            raise RenderError("the values of an activation are gone once the model has run on; draw it while it runs")
        return as_maps(self._values, windows=self.windows)

    @cached_property
    def _shape(self) -> torch.Size:
        return self._maps.shape

    @cached_property
    def _empty(self) -> bool:
        return 0 in self._shape

    @cached_property
    def _extremes(self) -> Extremes:
        return Extremes.of(self._maps)

    @cached_property
    def _seen(self) -> Seen:
        """What facts are made of; of a device other than the CPU on its way to the host."""
        if self._empty:
            return Seen(0, several=False, extremes=None, statistics=None)
        statistics = torch.stack([statistics_of(image) for image in self._maps]) if self.recipe.stats else None
        channels, height, width = self._maps.shape[1:]
        return Seen(
            channels,
            several=height * width > 1,
            extremes=self._extremes.fetched(),
            statistics=None if statistics is None else Fetched(statistics),
        )

    @cached_property
    def _facts(self) -> tuple[Facts, ...]:
        return self._seen.facts(self.batch)

    @cached_property
    def _codes(self) -> _Codes:
        maps, extremes, normalizer = self._maps, self._extremes, self.recipe.normalizer
        if self.recipe.transforms:
            maps = transformed(maps, self.recipe.transforms)
            extremes = Extremes.of(maps)
        if extremes.finite:
            limits, layout = _limits(normalizer, maps, extremes.raw), self._written_to(maps)
            make = partial(quantise, maps, limits, extremes.raw, layout)
            return _Codes(normalizer, limits, make, maps.shape, layout)
        repaired = repair(maps)
        limits = _limits(normalizer, repaired)
        return _Codes(normalizer, limits, lambda: mark_not_finite(quantise(repaired, limits), maps), maps.shape)

    def _written_to(self, maps: Tensor) -> Layout | None:
        """The layout of maps whose codes are best made where they lie in the pictures; None where they are not."""
        if self.folded or in_color(self.recipe.transforms) or not compiled_for(maps):
            return None
        layout = layout_of(self.recipe.tiler, maps.shape)
        return layout if layout is not None and can_be_written_to(layout, maps.shape) else None

    def _draw(self, position: int) -> tuple[Picture, ...]:
        codes = self._codes
        low, high = (limit[position] for limit in codes.limits())
        if in_color(self.recipe.transforms):
            return (Picture(colored(codes.indices(position), NOT_VALUES.values()), None, low, high),)
        if codes.layout is not None:
            laid, ready = codes.numpy()[position], True
        elif codes.nbytes <= _FEW:
            laid, ready = self._tiles[0][position], self._tiles[1]
        else:
            tiles, ready = self._laid_out(codes.numpy()[position : position + 1])
            laid = tiles[0]
        each = len(laid) == len(low) > 1
        colors = palette_of(self.recipe)
        return tuple(
            Picture(
                tile[:, 1:] if ready else tile,
                colors,
                low[number : number + 1] if each else low,
                high[number : number + 1] if each else high,
                tile if ready else None,
            )
            for number, tile in enumerate(laid)
        )

    @cached_property
    def _tiles(self) -> tuple[NDArray[np.uint8], bool]:
        """All pictures at once, where they are small."""
        return self._laid_out(self._codes.numpy())

    def _laid_out(self, indices: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
        """``(B, C, H, W)`` codes -> ``(B, N, H', W')``, the pictures of each image.

        Or ``(B, N, H', 1 + W')`` and True: with a zero before each line, as PNG files have them.
        """
        codes = torch.from_numpy(indices)
        if self.folded and codes.shape[2] == 1:
            codes = fold(codes)
        tiler = self.recipe.tiler
        layout = layout_of(tiler, codes.shape)
        try:
            tiles = tiler(codes) if layout is None else lay(codes, layout)
        except Exception as error:
            said = f"tiler {describe(tiler)} can't lay out {tuple(codes.shape)}: {said_of(error)}"
            raise RenderError(said) from error
        if not isinstance(tiles, torch.Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            raise RenderError(f"tiler {describe(tiler)} has to give (B, N, H, W) uint8, not {_shown(tiles)}")
        if tiles.shape[0] != codes.shape[0]:
            given = f"gave pictures of {tiles.shape[0]} images for a batch of {codes.shape[0]}"
            raise RenderError(f"tiler {describe(tiler)} {given}")
        return tiles.numpy(), layout is not None


_FEW = 1 << 20
"""Codes of a batch that are laid out at once: with their pictures, they stay in the cache until they are packed."""


class _Codes:
    """The codes of a batch, and the limits they lie between."""

    def __init__(
        self,
        normalizer: Normalizer,
        limits: Tensor | NDArray[np.float64],
        make: Callable[[], Tensor | NDArray[np.uint8]],
        shape: torch.Size,
        layout: Layout | None = None,
        *,
        checked: bool = False,
    ) -> None:
        self._normalizer = normalizer
        self._limits = Fetched(limits)
        self._checked = checked
        if self._limits.is_here:
            self._check()
        self._codes = Fetched(make())
        self._shape = shape
        self.layout = layout
        """None where the codes lie as the maps do."""
        self.nbytes = self._codes.nbytes

    def limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """``(B, C)`` low and high."""
        self._check()
        low, high = self._limits.numpy()
        return low, high

    def numpy(self) -> NDArray[np.uint8]:
        """``(B, C, H, W)`` codes, or, with a layout, ``(B, N, H', 1 + W')``, as `lay` gives them."""
        self._check()
        return self._codes.numpy()

    def indices(self, position: int) -> NDArray[np.uint8]:
        """``(C, H, W)`` codes of one image."""
        codes = torch.from_numpy(self.numpy()[position : position + 1])
        if self.layout is not None:
            codes = taken_up(codes, self.layout, self._shape)
        return codes[0].numpy()

    def _check(self) -> None:
        if not self._checked:
            check_limits(self._normalizer, *self._limits.numpy())
            self._checked = True


def _limits(normalizer: Normalizer, maps: Tensor, extremes: Tensor | None = None) -> Tensor:
    try:
        return find_limits(normalizer, maps, extremes)
    except RenderError:
        raise
    except Exception as error:
        said = f"normalizer {describe(normalizer)} can't take {tuple(maps.shape)}: {said_of(error)}"
        raise RenderError(said) from error


class ImageDrawing(BatchDrawing):
    """Draws images of 3 channels or 1, or of 6 or 2, which are two side by side, as the colors that they are."""

    def __init__(self, values: Tensor, limits: Limits, recipe: Recipe) -> None:
        low, high = (torch.tensor(limit, dtype=torch.float64).reshape(-1, 1, 1) for limit in limits)
        super().__init__(values, replace(recipe, normalizer=lambda _: (low, high), transforms=()))
        self.limits = tuple(torch.broadcast_tensors(low, high))

    def settle(self, *, pixels: bool) -> int:
        if pixels and self._values is not None:
            self._colors  # noqa: B018
        return super().settle(pixels=pixels)

    def _written_to(self, maps: Tensor) -> Layout | None:  # noqa: ARG002 - none of its pictures is made of codes
        return None

    @cached_property
    def _colors(self) -> Fetched:
        maps, finite = self._maps, self._extremes.finite
        batch, channels, height, width = maps.shape
        low, high = (limit.to(maps.device).expand(channels, 1, 1) for limit in self.limits)
        scale = 255 / (high - low)
        colors = torch.empty(maps.shape, dtype=torch.uint8, device=maps.device)
        # In float64, as the limits are. One channel after the other in the same memory, so that all stays in the cache.
        scaled = torch.empty((height, width), dtype=torch.float64, device=maps.device)
        whole = torch.empty((height, width), dtype=torch.int16, device=maps.device)  # to and from which is vectorised
        for image, channel in itertools.product(range(batch), range(channels)):
            scaled.copy_(maps[image, channel]).sub_(low[channel]).mul_(scale[channel])
            if not finite:
                scaled.nan_to_num_(0, 255, 0)
            colors[image, channel] = whole.copy_(scaled.round_().clamp_(0, 255))
        return Fetched(colors)

    def _draw(self, position: int) -> tuple[Picture, ...]:
        low, high = (limit.flatten().numpy() for limit in self.limits)
        colors = self._colors.numpy()[position]
        halves = np.split(colors, 2) if len(colors) % 2 == 0 else [colors]  # of an AB pair, side by side
        pixels = [np.stack([half[channel % len(half)] for channel in range(3)], -1) for half in halves]
        return (Picture(np.concatenate(pixels, 1), None, low, high),)


class WholeDrawing:
    """The images of a batch taken as one."""

    def __init__(self, values: Tensor, recipe: Recipe) -> None:
        if values.layout not in (torch.strided, torch.sparse_coo):
            values = values.to_dense()  # since the others take no further axis
        self.drawing = BatchDrawing(values if values.ndim else values[None], recipe)
        self.as_one = BatchDrawing(values[None], recipe)

    def levels(self, _: int, /) -> Levels:
        parts = [self.drawing.levels(position) for position in range(self.drawing.batch)]
        return Levels(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "low", "high")))

    def pictures(self, _: int, /) -> tuple[Picture, ...]:
        return tuple(picture for position in range(self.drawing.batch) for picture in self.drawing.pictures(position))

    def facts(self, _: int, /) -> Facts:
        return self.as_one.facts(0)

    def settle(self, *, pixels: bool) -> int:
        return self.as_one.settle(pixels=False) + self.drawing.settle(pixels=pixels)


def fold(codes: Tensor) -> Tensor:
    """Rows ``(B, C, 1, W)`` folded to near-square pictures, the rest of the last line filled with background."""
    width = codes.shape[-1]
    columns = math.ceil(math.sqrt(width))
    even = [count for count in range(columns, 2 * columns + 1) if width % count == 0]
    columns = even[0] if even else columns
    rows = math.ceil(width / columns)
    filled = torch.nn.functional.pad(codes, (0, rows * columns - width), value=BACKGROUND)
    return filled.reshape(*codes.shape[:2], rows, columns)


def _shown(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
