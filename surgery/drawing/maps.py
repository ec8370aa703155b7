"""Values of any shape and dtype as maps ``(B, C, H, W)`` of real numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.drawing.extremes import find_finite_extremes

if TYPE_CHECKING:
    from torch import Tensor


def split_by_image(values: Tensor, batch: int) -> Tensor | None:
    """Return a view ``(B, ...)`` with one entry for each image; None if the values belong to the whole batch.

    A first axis of ``k * B`` entries, such as windows, gives ``(B, k, ...)``.
    """
    if values.ndim == 0 or values.shape[0] == 0 or values.shape[0] % batch:
        return None
    return values if values.shape[0] == batch else values.unflatten(0, (batch, -1))


def as_maps(values: Tensor, *, windows: bool = False) -> Tensor:
    """Return ``(B, ...)`` values of any dtype as maps ``(B, C, H, W)``, float32 or float64.

    ========================  ===========================================================
    ``(B, C)``                one row of C values
    ``(B, T, D)``             one map of T rows
    ``(B, C, H, W)``          as they are
    ``(B, C, D, H, W)``       one map for each channel, with its D slices side by side
    ========================  ===========================================================

    If `windows` is true, axis 1 counts windows, whose channels are concatenated. Complex values are replaced by their
    magnitudes.
    """
    values = as_real(values)
    rank = values.ndim - 1
    if windows and rank > 3:
        return as_maps(values.flatten(1, 2))
    if rank == 0:
        return values.reshape(-1, 1, 1, 1)
    if rank == 1:
        return values[:, None, None, :]
    if rank == 2:
        return values[:, None]
    if rank == 3:
        return values
    volumes = values.flatten(2, -3)
    return volumes.transpose(2, 3).flatten(3, 4)


def as_real(values: Tensor) -> Tensor:
    """Return any tensor as dense float32, or as float64 if float32 could lose digits."""
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


def as_vectors(maps: Tensor) -> Tensor:
    """Return maps of one value each, ``(B, C, 1, 1)``, as vectors ``(B, 1, 1, C)``; other maps as they are.

    As maps, all values would be drawn in the same middle color.
    """
    return maps.reshape(len(maps), 1, 1, -1) if maps.shape[2:] == (1, 1) and maps.shape[1] else maps


def replace_nonfinite(maps: Tensor) -> Tensor:
    """Return ``(B, C, H, W)`` maps with finite values only.

    In each channel, NaN becomes the mean of the finite values, +inf becomes their maximum and -inf their minimum; a
    channel without finite values becomes 0.
    """
    is_finite = maps.isfinite()
    has_finite = is_finite.any(-1, keepdim=True).any(-2, keepdim=True)
    low, high = (torch.where(has_finite, limit[..., None, None], 0.0) for limit in find_finite_extremes(maps))
    count = is_finite.sum((2, 3), keepdim=True).clamp_(min=1)
    # Divided before the sum, which could overflow.
    mean = torch.where(is_finite, maps / count, 0.0).sum((2, 3), keepdim=True)
    mean = torch.minimum(torch.maximum(mean, low), high)
    replaced = torch.where(maps.isnan(), mean, maps)
    return torch.where(maps == torch.inf, high, torch.where(maps == -torch.inf, low, replaced))
