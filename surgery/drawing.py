"""The pictures of a batch, made step by step when they are asked for: extremes, limits, codes, tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.errors import RenderError
from surgery.fetching import Fetched
from surgery.loading import said_of
from surgery.palettes import NOT_VALUES, palette_of
from surgery.quantising import (
    as_maps,
    check_limits,
    find_extremes,
    find_limits,
    finite_extremes,
    mark_not_finite,
    quantise,
    repair,
)
from surgery.transforming import colored, in_color, transformed
from surgery.types import BACKGROUND, Facts, Levels, Picture, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.types import Limits, Normalizer, Recipe


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
        codes, low, high = self._codes.numpy()
        return Levels(codes[position], low[position], high[position])

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
        self._seen  # noqa: B018 - made when it is asked for
        if pixels and not self._empty:
            self._codes  # noqa: B018
        self._values = None
        self.__dict__.pop("_maps", None)
        return self._codes.nbytes if pixels and not self._empty else 0

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
    def _extremes(self) -> _Extremes:
        return _Extremes.of(self._maps)

    @cached_property
    def _seen(self) -> _Seen:
        """What facts are made of; of a device other than the CPU on its way to the host."""
        if self._empty:
            return _Seen(0, several=False, extremes=None, statistics=None)
        statistics = torch.stack([_statistics(image) for image in self._maps]) if self.recipe.stats else None
        channels, height, width = self._maps.shape[1:]
        return _Seen(
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
            extremes = _Extremes.of(maps)
        if extremes.finite:
            limits = _limits(normalizer, maps, extremes.raw)
            return _Codes(normalizer, limits, lambda: quantise(maps, limits, extremes.raw))
        repaired = repair(maps)
        limits = _limits(normalizer, repaired)
        return _Codes(normalizer, limits, lambda: mark_not_finite(quantise(repaired, limits), maps))

    def _draw(self, position: int) -> tuple[Picture, ...]:
        codes, low, high = self._codes.numpy()
        low, high = low[position], high[position]
        if in_color(self.recipe.transforms):
            return (Picture(colored(codes[position], NOT_VALUES.values()), None, low, high),)
        few = codes.nbytes <= _FEW
        tiles = self._tiles[position] if few else self._laid_out(codes[position : position + 1])[0]
        each = len(tiles) == len(low) > 1
        colors = palette_of(self.recipe)
        return tuple(
            Picture(
                pixels,
                colors,
                low[number : number + 1] if each else low,
                high[number : number + 1] if each else high,
            )
            for number, pixels in enumerate(tiles)
        )

    @cached_property
    def _tiles(self) -> NDArray[np.uint8]:
        """``(B, N, H', W')``: all pictures at once, where they are small."""
        return self._laid_out(self._codes.numpy()[0])

    def _laid_out(self, indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``(B, C, H, W)`` codes -> ``(B, N, H', W')``, the pictures of each image."""
        codes = torch.from_numpy(indices)
        if self.folded and codes.shape[2] == 1:
            codes = fold(codes)
        tiler = self.recipe.tiler
        try:
            tiles = tiler(codes)
        except Exception as error:
            said = f"tiler {describe(tiler)} can't lay out {tuple(codes.shape)}: {said_of(error)}"
            raise RenderError(said) from error
        if not isinstance(tiles, torch.Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            raise RenderError(f"tiler {describe(tiler)} has to give (B, N, H, W) uint8, not {_shown(tiles)}")
        if tiles.shape[0] != codes.shape[0]:
            given = f"gave pictures of {tiles.shape[0]} images for a batch of {codes.shape[0]}"
            raise RenderError(f"tiler {describe(tiler)} {given}")
        return tiles.numpy()


_FEW = 1 << 20
"""Codes of a batch that are laid out at once: with their pictures, they stay in the cache until they are packed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Extremes:
    """The least and the greatest values of a batch's maps."""

    raw: Tensor
    """``(2, B, C)``, NaN where one is among them."""
    known: Tensor
    """``(2, B, C)``, of the finite values alone; inf and -inf where there is none."""
    spoiled: Tensor | None
    """``(2, B)``: whether there is a NaN in an image, or an infinity; None where there is neither."""
    finite: bool | None
    """Whether all values are finite; None where nobody may wait to know."""

    @classmethod
    def of(cls, maps: Tensor) -> _Extremes:
        raw = find_extremes(maps)
        finite = bool(np.isfinite(raw.numpy()).all()) if maps.device.type == "cpu" else None
        if finite:
            return cls(raw, raw, None, finite)
        return cls(raw, finite_extremes(maps), torch.stack((maps.isnan(), maps.isinf())).flatten(2).any(2), finite)

    def fetched(self) -> tuple[Fetched, Fetched, Fetched | None]:
        raw = Fetched(self.raw)
        known = raw if self.known is self.raw else Fetched(self.known)
        return raw, known, None if self.spoiled is None else Fetched(self.spoiled)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the facts of a batch are made of."""

    channels: int
    several: bool
    """Whether a map has more than one value."""
    extremes: tuple[Fetched, Fetched, Fetched | None] | None
    """None where there are no values."""
    statistics: Fetched | None

    def facts(self, batch: int) -> tuple[Facts, ...]:
        if self.extremes is None:
            return (Facts(None, None, 0, 0, nan=False, inf=False),) * batch
        raw, known = (each.numpy() for each in self.extremes[:2])
        spoiled = None if self.extremes[2] is None else self.extremes[2].numpy()
        least, most = known[0].min(1), known[1].max(1)
        constant = (raw[0] == raw[1]).sum(1) if self.several else np.zeros(batch, int)
        exact = [{}] * batch if self.statistics is None else [_named(row) for row in self.statistics.numpy()]
        return tuple(
            Facts(
                min=float(least[number]) if least[number] <= most[number] else None,
                max=float(most[number]) if least[number] <= most[number] else None,
                channels=self.channels,
                constant_channels=int(constant[number]),
                nan=spoiled is not None and bool(spoiled[0, number]),
                inf=spoiled is not None and bool(spoiled[1, number]),
                **exact[number],
            )
            for number in range(batch)
        )


class _Codes:
    """The codes of a batch, and the limits they lie between."""

    def __init__(self, normalizer: Normalizer, limits: Tensor, make: Callable[[], Tensor]) -> None:
        self._normalizer = normalizer
        self._limits = Fetched(limits)
        self._checked = self._limits.is_here
        if self._checked:
            check_limits(normalizer, *self._limits.numpy())
        self._codes = Fetched(make())
        self.nbytes = self._codes.nbytes

    def numpy(self) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64]]:
        """``(B, C, H, W)`` codes, ``(B, C)`` low and high."""
        low, high = self._limits.numpy()
        if not self._checked:
            check_limits(self._normalizer, low, high)
            self._checked = True
        return self._codes.numpy(), low, high


def _limits(normalizer: Normalizer, maps: Tensor, extremes: Tensor | None = None) -> Tensor:
    try:
        return find_limits(normalizer, maps, extremes)
    except RenderError:
        raise
    except Exception as error:
        said = f"normalizer {describe(normalizer)} can't take {tuple(maps.shape)}: {said_of(error)}"
        raise RenderError(said) from error


def _statistics(maps: Tensor) -> Tensor:
    """``(5,)`` float64: mean and deviation of the finite values, share of zeros, numbers of NaN and of infinities."""
    values = maps[maps.isfinite()].double()
    zeros = (maps == 0).double().mean()
    # Of no values torch gives NaN, which stands for that.
    found = (values.mean(), values.std(correction=0), zeros, maps.isnan().sum(), maps.isinf().sum())
    return torch.stack([each.double() for each in found])


def _named(row: NDArray[np.float64]) -> dict[str, Any]:
    mean, std, zeros, nan, inf = row.tolist()
    mean, std = (None if math.isnan(each) else each for each in (mean, std))
    return {"mean": mean, "std": std, "zeros": zeros, "nan_count": int(nan), "inf_count": int(inf)}


class ImageDrawing(BatchDrawing):
    """Draws images as the colors that they are."""

    def __init__(self, values: Tensor, limits: Limits, recipe: Recipe) -> None:
        low, high = (torch.tensor(limit, dtype=torch.float64).reshape(-1, 1, 1) for limit in limits)
        super().__init__(values, replace(recipe, normalizer=lambda _: (low, high), transforms=()))
        self.limits = tuple(torch.broadcast_tensors(low, high))

    def settle(self, *, pixels: bool) -> int:
        if pixels and self._values is not None:
            self._colors  # noqa: B018
        return super().settle(pixels=pixels)

    @cached_property
    def _colors(self) -> Fetched:
        low, high = (limit.to(self._maps.device) for limit in self.limits)
        batch, channels, height, width = self._maps.shape
        pixels = torch.empty((batch, height, width, channels), dtype=torch.uint8, device=self._maps.device)
        for image, place in zip(self._maps, pixels, strict=True):  # one by one, so that all stays in the cache
            scaled = image.double().sub_(low).div_(high - low).mul_(255)
            place.copy_(scaled.nan_to_num_(0, 255, 0).round_().clamp_(0, 255).permute(1, 2, 0))
        return Fetched(pixels.expand(-1, -1, -1, 3).contiguous())

    def _draw(self, position: int) -> tuple[Picture, ...]:
        low, high = (limit.flatten().numpy() for limit in self.limits)
        return (Picture(self._colors.numpy()[position], None, low, high),)


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
