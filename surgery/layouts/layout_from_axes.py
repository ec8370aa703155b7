"""Layouts that follow from known axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from surgery.layouts.axes import BATCH, CHANNEL, DEPTH, HEIGHT, KEY, SPATIAL, UNKNOWN, WIDTH

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.layouts.axes import Axes, Factor


@dataclass(frozen=True, slots=True)
class AxisLayout:
    """Rearranges values whose axes are known factor by factor: channels first, then rows and columns."""

    grids: tuple[tuple[int, int, int], ...]
    """Axes that hold entries besides a grid: the axis, the first entry of the grid, the number of entries in it."""
    factors: tuple[int, ...]
    """Sizes of the factors after the batch, in memory order."""
    order: tuple[int, ...]
    """The order of the factors in the maps."""
    shape: tuple[int, ...]
    """Shape of the maps without the batch: ``(C, H, W)`` or ``(C, D, H, W)``."""

    def __call__(self, values: Tensor, /) -> Tensor:
        for axis, start, count in self.grids:
            values = values.narrow(axis, start, count)
        parts = values.reshape(len(values), *self.factors)
        return parts.permute(0, *(place + 1 for place in self.order)).reshape(len(values), *self.shape)

    def left_out(self, values: Tensor, /) -> Tensor | None:
        """Return the values outside the grids, ``(B, n)``; None if there are no such values."""
        outside = []
        for axis, start, count in self.grids:
            after = values.shape[axis] - start - count
            rest = (values.narrow(axis, 0, start), values.narrow(axis, start + count, after))
            outside.append(torch.cat(rest, axis).flatten(1))
            values = values.narrow(axis, start, count)
        return torch.cat(outside, 1) if outside else None


@dataclass(frozen=True, slots=True)
class _PlacedFactor:
    """A factor and the axis that it belongs to, where windows along the batch count as an axis of their own."""

    axis: int
    factor: Factor


def layout_from_axes(axes: Axes) -> tuple[str, AxisLayout | None] | None:
    """Return the name and the layout of values with these axes, of which the first is the batch.

    The layout is None if the values are maps in order already. Returns None if the axes do not make maps: the height or
    the width is missing or occurs twice, or several axes are unknown.
    """
    items = axes.items
    if not items or not items[0].factors or items[0].factors[0].name != BATCH:
        return None
    windows = items[0].factors[1:]
    factors = [_PlacedFactor(0, factor) for factor in windows]
    grids: list[tuple[int, int, int]] = []
    for axis, item in enumerate(items[1:], 2 if windows else 1):
        factors += [_PlacedFactor(axis, factor) for factor in item.factors]
        if item.has_extra_entries:
            grids.append((axis, item.before, math.prod(factor.size for factor in item.factors)))
    groups = _group_factors([placed.factor for placed in factors])
    if groups is None:
        return None
    order = tuple(place for group in groups for place in group)
    sizes = tuple(placed.factor.size for placed in factors)
    shape = tuple(math.prod(sizes[place] for place in group) for group in groups)
    name = _name_layout(factors, groups, shape)
    is_in_order = order == tuple(range(len(order))) and not grids and len(items) == len(shape) + 1 and not windows
    return name, None if is_in_order else AxisLayout(tuple(grids), sizes, order, shape)


def _group_factors(factors: list[Factor]) -> list[list[int]] | None:
    """Return the positions of the factors that make the channels, the depth if there is one, the height and the width.

    Returns None if they do not make maps.
    """
    counted = [(factor.name, factor.split_path) for factor in factors if factor.size > 1]
    if len(set(counted)) < len(counted) or any(name in (BATCH, KEY) for name, _ in counted):
        return None
    spatial = {
        name: sorted(
            (place for place, factor in enumerate(factors) if factor.name == name),
            key=lambda place: factors[place].split_path,
        )
        for name in (DEPTH, HEIGHT, WIDTH)
    }
    if not spatial[HEIGHT] or not spatial[WIDTH]:
        return None
    channels = [place for place, factor in enumerate(factors) if factor.name not in SPATIAL]
    if all(factors[place].name == CHANNEL for place in channels):
        channels.sort(key=lambda place: factors[place].split_path)
    elif sum(factors[place].name == UNKNOWN and factors[place].size > 1 for place in channels) > 1:
        return None
    return [channels, *([spatial[DEPTH]] if spatial[DEPTH] else []), spatial[HEIGHT], spatial[WIDTH]]


def _name_layout(factors: list[_PlacedFactor], groups: list[list[int]], shape: tuple[int, ...]) -> str:
    channels, (rows, columns) = groups[0], groups[-2:]
    height, width = ([factors[place] for place in group if factors[place].factor.size > 1] for group in (rows, columns))
    height_axes, width_axes = ({placed.axis for placed in group} for group in (height, width))
    if len(height_axes) > 1 or len(width_axes) > 1:
        sides = (_inner_size(group) for group in (height, width) if group)
        return f"windows:{'x'.join(map(str, sides))}"
    if height_axes & width_axes:
        return f"tokens:{shape[-2]}x{shape[-1]}"
    last = max((*rows, *columns), default=0)
    return "channels-last" if channels and min(channels) > last else "channels-first"


def _inner_size(group: list[_PlacedFactor]) -> int:
    """Return the product of the factors in the last axis of a group: the side of a window."""
    return math.prod(placed.factor.size for placed in group if placed.axis == group[-1].axis)
