"""From activations to pictures: limits, bytes, tiles, palette."""

from __future__ import annotations

import math
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.builtin.colormaps import COLORMAPS
from surgery.builtin.normalizers import Fixed, MinMax
from surgery.builtin.tilers import Grid
from surgery.errors import RenderError, did_you_mean
from surgery.quantising import as_maps, find_limits, finite_extremes, mark_not_finite, quantise, repair, share_out
from surgery.types import (
    BACKGROUND,
    LEVELS,
    MINUS_INF,
    NAN,
    PLUS_INF,
    Activation,
    Facts,
    Levels,
    Operation,
    Picture,
    Recipe,
    describe,
)
from surgery.values import tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.types import Colormap, Normalizer, Tiler

NOT_VALUES = {
    "NaN": (NAN, (255, 0, 200)),
    "-inf": (MINUS_INF, (0, 110, 255)),
    "+inf": (PLUS_INF, (0, 255, 255)),
    "background": (BACKGROUND, (32, 33, 38)),
}
"""The codes that stand for no value, and their colors."""

STANDARD = Recipe(MinMax(), Grid())


def draw(
    values: Tensor,
    *,
    normalizer: Normalizer = STANDARD.normalizer,
    tiler: Tiler = STANDARD.tiler,
    colormap: Colormap = None,
) -> tuple[Picture, ...]:
    """Pictures of a tensor whose first axis is the batch: one for each image, or as many as the tiler makes of one.

    Raises RenderError where a stage gives something that can't be drawn.
    """
    drawing = BatchDrawing(values if values.ndim else values[None], Recipe(normalizer, tiler, colormap))
    return tuple(picture for position in range(drawing.batch) for picture in drawing.pictures(position))


def activations_of(
    operation: Operation,
    value: Any,
    images: Sequence[str] | None,
    recipe: Recipe,
    key: str = "",
) -> Iterator[Activation]:
    """Activations of what an operation computed for a batch of `images`; of the batch as one where that is None."""
    for where, tensor in tensors_in(value, key):
        path = operation.path + where
        if images is None:
            whole = BatchDrawing(tensor if tensor.ndim else tensor[None], recipe)
            yield Activation(operation, path, None, tensor, _AllOf(whole))
            continue
        parts = share_out(tensor, len(images))
        if parts is None:
            yield Activation(operation, path, None, tensor, BatchDrawing(tensor[None], recipe))
            continue
        drawing = BatchDrawing(parts, recipe, windows=parts.ndim > tensor.ndim)
        for position, image in enumerate(images):
            yield Activation(operation, path, image, parts[position], drawing, position)


def image_activations(
    operation: Operation,
    values: Tensor,
    images: Sequence[str],
    limits: tuple[float, float],
    recipe: Recipe,
) -> Iterator[Activation]:
    """Activations that are color by nature: ``(B, 3, H, W)`` or ``(B, 1, H, W)`` within `limits`, drawn as RGB."""
    drawing = ImageDrawing(values, limits, recipe)
    for position, image in enumerate(images):
        yield Activation(operation, operation.path, image, values[position], drawing, position)


class BatchDrawing:
    """Draws ``(B, ...)`` values for all who ask: each step is done once for the batch, and none before it is needed."""

    def __init__(self, values: Tensor, recipe: Recipe, *, windows: bool = False) -> None:
        self.values = values
        self.recipe = recipe
        self.windows = windows
        self.batch = values.shape[0]

    def levels(self, position: int, /) -> Levels:
        codes, low, high = self._codes
        return Levels(codes[position].cpu().numpy(), low[position], high[position])

    def pictures(self, position: int, /) -> tuple[Picture, ...]:
        if self._maps.numel() == 0:
            return ()
        _, low, high = self._codes
        tiles = self._tiles[position]
        each = len(tiles) == low.shape[1] > 1
        colors = palette_of(self.recipe)
        return tuple(
            Picture(
                pixels,
                colors,
                low[position, number : number + 1] if each else low[position],
                high[position, number : number + 1] if each else high[position],
            )
            for number, pixels in enumerate(tiles)
        )

    def facts(self, position: int, /) -> Facts:
        if self._maps.numel() == 0:
            return Facts(None, None, 0, 0, nan=False, inf=False)
        low, high = (limit[position] for limit in self._extremes)
        some = low <= high
        several = self._maps.shape[2] * self._maps.shape[3] > 1
        return Facts(
            min=float(low[some].min()) if some.any() else None,
            max=float(high[some].max()) if some.any() else None,
            channels=self._maps.shape[1],
            constant_channels=int((self._raw_extremes[0, position] == self._raw_extremes[1, position]).sum())
            if several
            else 0,
            nan=not self._all_finite and bool(self._maps[position].isnan().any()),
            inf=not self._all_finite and bool(self._maps[position].isinf().any()),
            **(self._statistics(position) if self.recipe.stats else {}),
        )

    @cached_property
    def _maps(self) -> Tensor:
        return as_maps(self.values, windows=self.windows)

    @cached_property
    def _raw_extremes(self) -> Tensor:
        return torch.stack((self._maps.amin((2, 3)), self._maps.amax((2, 3)))).cpu()

    @cached_property
    def _all_finite(self) -> bool:
        return bool(self._raw_extremes.isfinite().all())

    @cached_property
    def _extremes(self) -> NDArray[np.float64]:
        """``(2, B, C)`` least and greatest finite values."""
        found = self._raw_extremes if self._all_finite else torch.stack(finite_extremes(self._maps)).cpu()
        return found.double().numpy()

    @cached_property
    def _codes(self) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]:
        maps = self._maps if self._all_finite else repair(self._maps)
        low, high = find_limits(self.recipe.normalizer, maps)
        codes = quantise(maps, low, high)
        if not self._all_finite:
            mark_not_finite(codes, self._maps)
        return codes, low[..., 0, 0].cpu().numpy(), high[..., 0, 0].cpu().numpy()

    @cached_property
    def _tiles(self) -> NDArray[np.uint8]:
        codes = fold(self._codes[0]) if self.values.ndim == 2 else self._codes[0]
        name = describe(self.recipe.tiler)
        try:
            tiles = self.recipe.tiler(codes)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise RenderError(f"tiler {name} can't lay out {tuple(codes.shape)}: {error}") from error
        if not isinstance(tiles, torch.Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            raise RenderError(f"tiler {name} has to give (B, N, H, W) uint8, not {_shown(tiles)}")
        if tiles.shape[0] != self.batch:
            raise RenderError(f"tiler {name} gave pictures of {tiles.shape[0]} images for a batch of {self.batch}")
        return tiles.cpu().numpy()

    def _statistics(self, position: int) -> dict[str, Any]:
        values = self._maps[position]
        finite = values[values.isfinite()].double()
        return {
            "mean": float(finite.mean()) if finite.numel() else None,
            "std": float(finite.std(correction=0)) if finite.numel() else None,
            "zeros": float((values == 0).double().mean()),
            "nan_count": int(values.isnan().sum()),
            "inf_count": int(values.isinf().sum()),
        }


class ImageDrawing(BatchDrawing):
    """Draws images as the colors that they are."""

    def __init__(self, values: Tensor, limits: tuple[float, float], recipe: Recipe) -> None:
        fixed = Fixed(*limits, per="batch")
        super().__init__(values, Recipe(fixed, recipe.tiler, recipe.colormap, recipe.stats))
        self.limits = limits

    def pictures(self, position: int, /) -> tuple[Picture, ...]:
        low, high = self.limits
        scaled = (self._maps[position].double() - low) / (high - low) * 255
        pixels = scaled.nan_to_num(0, 255, 0).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        pixels = pixels.expand(-1, -1, 3).contiguous()
        return (Picture(pixels.cpu().numpy(), None, np.array([low], np.float64), np.array([high], np.float64)),)


class _AllOf:
    """The images of a batch taken as one."""

    def __init__(self, drawing: BatchDrawing) -> None:
        self.drawing = drawing

    def levels(self, _: int, /) -> Levels:
        parts = [self.drawing.levels(position) for position in range(self.drawing.batch)]
        return Levels(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "low", "high")))

    def pictures(self, _: int, /) -> tuple[Picture, ...]:
        return tuple(picture for position in range(self.drawing.batch) for picture in self.drawing.pictures(position))

    def facts(self, _: int, /) -> Facts:
        values = self.drawing.values
        return BatchDrawing(values[None], self.drawing.recipe).facts(0)


def fold(codes: Tensor) -> Tensor:
    """Rows ``(B, C, 1, W)`` folded to near-square pictures, the rest of the last line filled with background."""
    width = codes.shape[-1]
    columns = math.ceil(math.sqrt(width))
    even = [count for count in range(columns, 2 * columns + 1) if width % count == 0]
    columns = even[0] if even else columns
    rows = math.ceil(width / columns)
    filled = torch.nn.functional.pad(codes, (0, rows * columns - width), value=BACKGROUND)
    return filled.reshape(*codes.shape[:2], rows, columns)


def palette_of(recipe: Recipe) -> NDArray[np.uint8]:
    """The palette of a recipe: its colormap's, or the one that its normalizer names, or viridis."""
    chosen = recipe.colormap if recipe.colormap is not None else getattr(recipe.normalizer, "colormap", "viridis")
    try:
        return _cached_palette(chosen)
    except TypeError:  # a list of colors has no hash
        return palette(chosen)


def palette(colormap: Colormap) -> NDArray[np.uint8]:
    """``(256, 3)`` uint8: a colormap at the 251 levels, and the colors of what is no value.

    Raises RenderError for a name that no colormap has, and for a function that gives no colors.
    """
    levels = np.linspace(0.0, 1.0, LEVELS)
    try:
        sampled = np.asarray(colormap(levels) if callable(colormap) else _known(colormap)(levels), np.float64)
    except RenderError:
        raise
    except Exception as error:
        raise RenderError(f"colormap {describe(colormap)} can't be sampled: {type(error).__name__}: {error}") from error
    if sampled.shape not in ((LEVELS, 3), (LEVELS, 4)) or not np.isfinite(sampled).all():
        raise RenderError(
            f"colormap {describe(colormap)} has to give ({LEVELS}, 3) or ({LEVELS}, 4) finite, not {sampled.shape}"
        )
    colors = np.zeros((256, 3), np.uint8)
    colors[:LEVELS] = np.rint(sampled[:, :3].clip(0, 1) * 255)
    for code, color in NOT_VALUES.values():
        colors[code] = color
    return colors


_cached_palette = lru_cache(maxsize=64)(palette)


def _known(colormap: Any) -> Any:
    import cmap

    try:
        return cmap.Colormap(COLORMAPS.get(colormap, colormap) if isinstance(colormap, str) else colormap)
    except ValueError as error:
        if not isinstance(colormap, str):
            raise
        raise RenderError(f"no colormap is called {colormap!r}{did_you_mean(colormap, COLORMAPS)}") from error


def _shown(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
