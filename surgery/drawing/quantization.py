"""Values to codes: one byte for each value, from 0 at the low limit to 250 at the high one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing import compiled_kernels
from surgery.drawing.row_blocks import row_blocks, rows_per_block
from surgery.drawing.tiling import canvas_shape, kernel_grid, tile_codes
from surgery.types import LEVELS, MINUS_INF, NAN, PLUS_INF

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.drawing._kernels import Grid
    from surgery.stages import TileLayout

_TOP = LEVELS - 1
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


def quantize(maps: Tensor, limits: Tensor, extremes: Tensor | None = None, layout: TileLayout | None = None) -> Tensor:
    """Return the uint8 codes of finite maps ``(B, C, H, W)`` between `limits` ``(2, B, C)`` float64.

    Values at the low limit or below get 0, values at the high limit or above get 250. If the limits are equal, all get
    125. If the `extremes` ``(2, B, C)`` show that no value lies outside its limits, one pass is saved.

    The codes have the shape of the maps, or, with a `layout` that shows all maps, that of `tile_codes`.
    """
    if maps.dtype == torch.float32 and maps.device.type == "cpu":
        bounds = limits.numpy().reshape(2, -1)
        scales = _float32_scales(bounds)
        if scales is not None and compiled_kernels.can_use_kernels(maps):
            canvas, grid = _make_canvas(maps, layout)
            compiled_kernels.kernels.quantize(maps.numpy(), scales, canvas, _TOP, grid)
            return torch.from_numpy(canvas)
        if scales is not None:
            codes = _quantize_blocks(maps, scales, clamp=not _are_within(bounds, extremes))
            return codes if layout is None else tile_codes(codes, layout)
    codes = _quantize_float64(maps, limits)
    return codes if layout is None else tile_codes(codes, layout)


def quantize_between_extremes(
    maps: Tensor, layout: TileLayout | None = None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
    """Return the extremes that `find_extremes` finds and the codes of `quantize` between them, in a single pass.

    Returns None if the compiled kernels can't read the maps, if a value is not finite, or if float32 would overflow.
    """
    if not compiled_kernels.can_use_kernels(maps):
        return None
    extremes = np.empty((2, *maps.shape[:2]), np.float32)
    canvas, grid = _make_canvas(maps, layout)
    done = compiled_kernels.kernels.quantize_between_extremes(maps.numpy(), extremes, canvas, _TOP, grid)
    return (extremes, canvas) if done else None


def mark_nonfinite(codes: Tensor, maps: Tensor) -> Tensor:
    """Write the codes of NaN and of the infinities where the maps have them, in place, and return the codes."""
    codes.masked_fill_(maps.isnan(), NAN)
    codes.masked_fill_(maps == torch.inf, PLUS_INF)
    return codes.masked_fill_(maps == -torch.inf, MINUS_INF)


def _make_canvas(maps: Tensor, layout: TileLayout | None) -> tuple[NDArray[np.uint8], Grid]:
    """Return an array for the codes, and the places in it where the kernels write each map."""
    if layout is not None:
        return np.empty(canvas_shape(layout, maps.shape), np.uint8), kernel_grid(layout, maps.shape)
    one_after_the_other = (1, 1, maps.shape[2] * maps.shape[3], 1, 1, 0, 0, 0)
    return np.empty(maps.shape, np.uint8), one_after_the_other


def _float32_scales(limits: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Return `low`, `scale` and `rounding` ``(3, n)`` for limits ``(2, n)``; None if float32 would overflow.

    The code of a value is the whole part of ``(value - low) * scale + rounding``. `low` is subtracted first, since
    ``value * scale + offset`` would lose all digits if the limits are close to each other and far from zero.
    """
    if np.abs(limits).max() > _LARGEST_FLOAT32 / 2:
        return None
    low, high = limits
    span = high - low
    is_constant = span == 0 if span.min() == 0 else None
    if is_constant is not None:
        span[is_constant] = 1
    if _TOP / float(span.min()) > _LARGEST_FLOAT32:
        return None
    scales = np.empty((3, len(low)), np.float32)
    scales[0], scales[1], scales[2] = low, _TOP / span, 0.5
    if is_constant is not None:
        scales[1, is_constant], scales[2, is_constant] = 0, _TOP / 2 + 0.5
    return scales


def _are_within(limits: NDArray[np.float64], extremes: Tensor | None) -> bool:
    """Whether the extremes are known and lie within the limits ``(2, n)``."""
    if extremes is None:
        return False
    least, greatest = extremes.numpy().reshape(2, -1)
    return bool((limits[0] <= least).all() and (greatest <= limits[1]).all())


def _quantize_blocks(maps: Tensor, scales: NDArray[np.float32], *, clamp: bool) -> Tensor:
    """Quantize block by block, so that every pass but the first finds its values in the cache."""
    row_size = maps.shape[2] * maps.shape[3]
    codes = torch.empty((maps.shape[0] * maps.shape[1], row_size), dtype=torch.uint8)
    most = min(codes.shape[0], rows_per_block(row_size))
    float_buffer, integer_buffer = torch.empty((most, row_size)), torch.empty((most, row_size), dtype=torch.int16)
    columns = torch.from_numpy(scales)[..., None].unbind()
    for rows, low, scale, rounding, part in row_blocks(maps, *columns, codes):
        count = rows.shape[0]  # less than `most` in the last block of all rows or of an image
        is_full = count == most
        floats, integers = (float_buffer, integer_buffer) if is_full else (float_buffer[:count], integer_buffer[:count])
        levels = torch.sub(rows, low, out=floats).mul_(scale).add_(rounding)
        if clamp:
            levels.clamp_(0, _TOP + 0.5)
        # By way of int16, since torch has vector code for both of these conversions and none for the direct one.
        part.copy_(integers.copy_(levels))
    return codes.view(maps.shape)


def _quantize_float64(maps: Tensor, limits: Tensor) -> Tensor:
    """Quantize values of any range."""
    low, high = limits[..., None, None].unbind()
    is_constant = low == high
    # Halved, since the span of float64 values may overflow; and divided by it, since its inverse may overflow.
    share = (maps.double() / 2 - low / 2) / torch.where(is_constant, 1.0, high / 2 - low / 2)
    share.mul_(torch.where(is_constant, 0.0, float(_TOP))).add_(torch.where(is_constant, _TOP / 2 + 0.5, 0.5))
    return share.clamp_(0, _TOP + 0.5).to(torch.uint8)
