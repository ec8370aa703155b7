"""From values to bytes: tensors laid out as maps, and maps as codes between two limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing.tiling import canvas_shape, kernel_grid, tile_codes
from surgery.errors import RenderError
from surgery.stages import declared_attribute
from surgery.text import describe_stage
from surgery.types import LEVELS, MINUS_INF, NAN, PLUS_INF

try:
    from surgery.drawing import _kernels
except ImportError:  # no compiler was there on installation: torch does the same, in more passes
    _kernels = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.drawing._kernels import Grid
    from surgery.stages import Normalizer, TileLayout


def split_by_image(values: Tensor, batch: int) -> Tensor | None:
    """A view ``(B, ...)`` of each image's part; None where the values belong to the whole batch.

    A first axis of ``k * B`` (window partitions, say) gives ``(B, k, ...)``.
    """
    if values.ndim == 0 or values.shape[0] == 0 or values.shape[0] % batch:
        return None
    return values if values.shape[0] == batch else values.unflatten(0, (batch, -1))


def as_maps(values: Tensor, *, windows: bool = False) -> Tensor:
    """``(B, ...)`` of any dtype -> real ``(B, C, H, W)`` float32 or float64.

    ``(B, C, H, W)`` is taken as it is; ``(B, C)`` becomes one row of C values; ``(B, T, D)`` one map of T rows;
    ``(B, C, D, H, W)`` a map for each channel with its D slices side by side. Of `windows` ``(B, k, ...)``, each is a
    channel, or all their channels are. Complex values are drawn by their magnitude.
    """
    values = as_real(values)
    rest = values.shape[1:]
    if windows and len(rest) > 3:
        return as_maps(values.flatten(1, 2))
    if len(rest) == 0:
        return values.reshape(-1, 1, 1, 1)
    if len(rest) == 1:
        return values[:, None, None, :]
    if len(rest) == 2:
        return values[:, None]
    if len(rest) == 3:
        return values
    volumes = values.flatten(2, -3)
    return volumes.transpose(2, 3).flatten(3, 4)


def as_real(values: Tensor) -> Tensor:
    """Any tensor as dense float32, or float64 where float32 would lose digits."""
    values = values.detach() if values.requires_grad else values
    if values.dtype == torch.float32 and values.layout is torch.strided:
        return values
    if values.is_quantized:
        values = values.dequantize()
    if values.layout is not torch.strided:
        values = values.to_dense()
    if values.is_complex():
        values = values.abs()
    wide = (torch.float64, torch.int64, torch.int32)
    return values.to(torch.float64 if values.dtype in wide else torch.float32)


def replace_nonfinite(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` with NaN replaced by the mean of its channel's finite values, infinities by their extremes."""
    finite = maps.isfinite()
    some = finite.any(-1, keepdim=True).any(-2, keepdim=True)
    low, high = find_finite_extremes(maps)
    low, high = (torch.where(some, limit[..., None, None], 0.0) for limit in (low, high))
    count = finite.sum((2, 3), keepdim=True).clamp_(min=1)
    # Divided before it is summed: the sum of finite values may be infinite.
    mean = torch.where(finite, maps / count, 0.0).sum((2, 3), keepdim=True)
    mean = torch.minimum(torch.maximum(mean, low), high)
    repaired = torch.where(maps.isnan(), mean, maps)
    return torch.where(maps == torch.inf, high, torch.where(maps == -torch.inf, low, repaired))


def find_extremes(maps: Tensor) -> Tensor:
    """``(2, B, C)`` least and greatest value of each channel, in the dtype of the maps; NaN where one is among them."""
    if maps.device.type != "cpu":
        return torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
    found = maps.new_empty((2, maps.shape[0] * maps.shape[1]))
    if has_compiled_pass(maps) and _kernels.extremes(maps.numpy(), found.numpy()):
        return found.view(2, *maps.shape[:2])
    for rows, least, most in _blocks(maps, found[0], found[1]):
        torch.amin(rows, 1, out=least)
        torch.amax(rows, 1, out=most)
    return found.view(2, *maps.shape[:2])


def quantize_between_extremes(
    maps: Tensor, layout: TileLayout | None = None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]] | None:
    """Extremes as `find_extremes` gives them, and the codes of `quantize` between them, in one pass over the values.

    None where that can't be: where there is no compiled code for it, or not all values are finite, or float32 would
    overflow.
    """
    if not has_compiled_pass(maps):
        return None
    extremes = np.empty((2, *maps.shape[:2]), np.float32)
    canvas, grid = _canvas(maps, layout)
    done = _kernels.quantise_between_extremes(maps.numpy(), extremes, canvas, LEVELS - 1, grid)
    return (extremes, canvas) if done else None


def _canvas(maps: Tensor, layout: TileLayout | None) -> tuple[NDArray[np.uint8], Grid]:
    """What codes are written to, and where on it they lie."""
    if layout is not None:
        return np.empty(canvas_shape(layout, maps.shape), np.uint8), kernel_grid(layout, maps.shape)
    return np.empty(maps.shape, np.uint8), (1, 1, maps.shape[2] * maps.shape[3], 1, 1, 0, 0, 0)  # one after the other


def has_compiled_pass(maps: Tensor) -> bool:
    """Whether there is compiled code for them: they lie one after the other in the memory of the CPU, as they are."""
    plain = maps.dtype == torch.float32 and maps.device.type == "cpu" and not maps.is_neg()
    return _kernels is not None and plain and maps.is_contiguous() and maps.numel() > 0


def find_finite_extremes(maps: Tensor) -> Tensor:
    """``(2, B, C)`` least and greatest finite value of each channel; inf and -inf where there is none."""
    finite = maps.isfinite()
    least = torch.where(finite, maps, torch.inf).amin((2, 3))
    return torch.stack((least, torch.where(finite, maps, -torch.inf).amax((2, 3))))


def find_limits(normalizer: Normalizer, maps: Tensor, extremes: Tensor | None = None) -> Tensor:
    """``(2, B, C)`` float64 limits, low and high, of finite maps, whose `extremes` are the like where they are known.

    Raises RenderError for what is no pair of limits; whether they are limits, `check_limits` tells.
    """
    of_extremes = declared_attribute(normalizer, "of_extremes")
    try:
        if extremes is None or of_extremes is None:
            low, high = normalizer(maps)
        else:
            low, high = of_extremes(*extremes[..., None, None].unbind())
    except (TypeError, ValueError) as error:
        raise RenderError(
            f"normalizer {describe_stage(normalizer)} did not give a pair (low, high): {error}"
        ) from error
    shape = (*maps.shape[:2], 1, 1)
    limits = torch.empty((2, *shape), dtype=torch.float64, device=maps.device)
    try:
        limits[0] = torch.as_tensor(low, device=maps.device)
        limits[1] = torch.as_tensor(high, device=maps.device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise RenderError(
            f"normalizer {describe_stage(normalizer)} gave limits that can't be broadcast to {shape}: {error}"
        ) from error
    return limits[..., 0, 0]


def check_limits(normalizer: Normalizer, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Raise RenderError for limits that are not finite with ``low <= high``."""
    if not (low <= high).all() or not (np.isfinite(low) & np.isfinite(high)).all():
        raise RenderError(f"normalizer {describe_stage(normalizer)} gave limits that are not finite with low <= high")


def quantize(maps: Tensor, limits: Tensor, extremes: Tensor | None = None, layout: TileLayout | None = None) -> Tensor:
    """``(B, C, H, W)`` finite values -> uint8 codes from 0 (at `low` or less) to 250 (at `high` or more).

    `limits` are ``(2, B, C)`` float64. Equal ones give 125. `low` is subtracted before anything is scaled:
    ``v * scale + offset`` would cancel where the limits lie close together and far from zero. A pass is spared where
    the `extremes` ``(2, B, C)`` say that no value lies outside its limits. With a `layout` that shows all maps, the
    codes are given as `tile_codes` lays them.
    """
    if maps.dtype == torch.float32 and maps.device.type == "cpu":
        bounds = limits.numpy().reshape(2, -1)
        scales = _float32_scales(bounds)
        if scales is not None and has_compiled_pass(maps):
            canvas, grid = _canvas(maps, layout)
            _kernels.quantise(maps.numpy(), scales, canvas, LEVELS - 1, grid)
            return torch.from_numpy(canvas)
        if scales is not None:
            return _tile_if_asked(_quantize_blocks(maps, scales, within=_is_within(bounds, extremes)), layout)
    top = LEVELS - 1
    low, high = limits[..., None, None].unbind()
    flat = low == high
    # In halves, since the span of float64 values may overflow; divided, since the scale may.
    part = (maps.double() / 2 - low / 2) / torch.where(flat, 1.0, high / 2 - low / 2)
    part.mul_(torch.where(flat, 0.0, float(top))).add_(torch.where(flat, top / 2 + 0.5, 0.5))
    return _tile_if_asked(part.clamp_(0, top + 0.5).to(torch.uint8), layout)


def _tile_if_asked(codes: Tensor, layout: TileLayout | None) -> Tensor:
    return codes if layout is None else tile_codes(codes, layout)


def _float32_scales(limits: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """Of limits ``(2, n)``, `low`, `scale` and `rounding` ``(3, n)``; None where float32 would overflow.

    A value's code is the whole part of ``(value - low) * scale + rounding``.
    """
    if np.abs(limits).max() > _LARGEST / 2:
        return None
    top = LEVELS - 1
    low, high = limits
    span = high - low
    flat = span == 0 if span.min() == 0 else None
    if flat is not None:
        span[flat] = 1
    if top / float(span.min()) > _LARGEST:
        return None
    scales = np.empty((3, len(low)), np.float32)
    scales[0], scales[1], scales[2] = low, top / span, 0.5
    if flat is not None:
        scales[1, flat], scales[2, flat] = 0, top / 2 + 0.5
    return scales


def _is_within(limits: NDArray[np.float64], extremes: Tensor | None) -> bool:
    """Whether it is known that no value lies outside its limits."""
    if extremes is None:
        return False
    least, most = extremes.numpy().reshape(2, -1)
    return bool((limits[0] <= least).all() and (most <= limits[1]).all())


_LARGEST = float(np.finfo(np.float32).max)


def _quantize_blocks(maps: Tensor, scales: NDArray[np.float32], *, within: bool) -> Tensor:
    """Block by block, so that all passes but the first find their values in the cache."""
    size = maps.shape[2] * maps.shape[3]
    codes = torch.empty((maps.shape[0] * maps.shape[1], size), dtype=torch.uint8)
    most = min(codes.shape[0], _rows_per_block(size))
    scaled, whole = torch.empty((most, size)), torch.empty((most, size), dtype=torch.int16)
    columns = torch.from_numpy(scales)[..., None].unbind()
    for rows, low, scale, rounding, part in _blocks(maps, *columns, codes):
        count = rows.shape[0]  # less than `most` in the last block, of all or of each image
        floats, integers = (scaled, whole) if count == most else (scaled[:count], whole[:count])
        levels = torch.sub(rows, low, out=floats).mul_(scale).add_(rounding)
        if not within:
            levels.clamp_(0, LEVELS - 0.5)
        # To int16 and then to a byte: both are vectorised, and the direct way is not.
        part.copy_(integers.copy_(levels))
    return codes.view(maps.shape)


_BLOCK = 1 << 16
"""Values that are worked on at once: with what they become, they stay in a core's own cache."""


def _rows_per_block(size: int) -> int:
    return max(1, _BLOCK // size)


def _blocks(maps: Tensor, *beside: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The channels of all images as rows ``(n, H * W)``, so many at once, and the same rows of what is `beside`."""
    channels, size = maps.shape[1], maps.shape[2] * maps.shape[3]
    step = _rows_per_block(size)
    if maps.is_contiguous():
        groups: Iterable[tuple[Tensor, ...]] = [(maps.view(-1, size), *beside)]
    else:
        images = (image.reshape(-1, size) for image in maps)
        groups = zip(images, *(each.split(channels) for each in beside), strict=True)
    for group in groups:
        if group[0].shape[0] <= step:
            yield group
        else:
            yield from zip(*(each.split(step) for each in group), strict=True)


def mark_nonfinite(codes: Tensor, maps: Tensor) -> Tensor:
    """Give what is no number its own code, in place."""
    codes.masked_fill_(maps.isnan(), NAN)
    codes.masked_fill_(maps == torch.inf, PLUS_INF)
    return codes.masked_fill_(maps == -torch.inf, MINUS_INF)
