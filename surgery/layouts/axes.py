"""The meaning of each axis of a value: batch, channel, depth, height, width, or several of these merged into one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

BATCH, CHANNEL, DEPTH, HEIGHT, WIDTH = "batch", "channel", "depth", "height", "width"
SPATIAL = (DEPTH, HEIGHT, WIDTH)
LENGTH = "length"
"""The axis of a signal that a 1-d convolution works on: samples, frames, or tokens."""
KEY = "key"
"""In an attention map, the axis of the keys. The axis before it counts the queries."""
UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Factor:
    """A quantity that an axis counts, such as channels or rows."""

    name: str
    size: int
    split_path: tuple[int, ...] = ()
    """How a reshape has split the original axis: of a height of 56 in windows of 7, ``(0,)`` counts the 8 windows and
    ``(1,)`` the 7 rows in each. Empty if it was not split."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: the product of its factors in memory order, with extra entries before and after them."""

    factors: tuple[Factor, ...]
    before: int = 0
    """Entries before the factors, such as class and register tokens before the tokens of a grid."""
    after: int = 0
    """Entries after the factors."""

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(factor.size for factor in self.factors) + self.before + self.after

    @property
    def names(self) -> set[str]:
        """The names of its factors, without factors of size 1."""
        return {factor.name for factor in self.factors if factor.size > 1}

    @property
    def has_extra_entries(self) -> bool:
        """Whether it has entries outside its factors."""
        return bool(self.before or self.after)


@dataclass(frozen=True, slots=True)
class Axes:
    """All axes of a value, and the operation that determines their meaning."""

    items: tuple[Axis, ...]
    origin: str = ""
    """The operation as text: ``conv_proj (conv2d)``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return tuple(axis.size for axis in self.items)

    @property
    def is_known(self) -> bool:
        """Whether no axis of more than one entry has an unknown factor."""
        return all(UNKNOWN not in axis.names for axis in self.items)


def simple_axis(name: str, size: int) -> Axis:
    """Return an axis of one factor."""
    return Axis((Factor(name, size),))


def named_axes(shape: Sequence[int], names: Sequence[str], origin: str) -> Axes:
    """Return axes of one factor each, with the given sizes and names."""
    return Axes(tuple(simple_axis(name, size) for name, size in zip(names, shape, strict=True)), origin)


def unknown_axes(shape: Sequence[int]) -> Axes:
    """Return axes of the given sizes whose meaning is unknown."""
    return Axes(tuple(simple_axis(UNKNOWN, size) for size in shape))


def resize_axis(axis: Axis, size: int) -> Axis:
    """Return an axis with the same meaning and another size."""
    if axis.size == size:
        return axis
    if len(axis.factors) == 1 and not axis.has_extra_entries:
        return Axis((replace(axis.factors[0], size=size),))
    names = {factor.name for factor in axis.factors}
    return simple_axis(names.pop() if len(names) == 1 else UNKNOWN, size)


def resize_axes(axes: Axes, shape: Sequence[int]) -> Axes:
    """Return axes with the same meanings and other sizes."""
    return replace(axes, items=tuple(resize_axis(axis, size) for axis, size in zip(axes.items, shape, strict=True)))


def permute_axes(axes: Axes, order: Sequence[int]) -> Axes:
    """Return the axes in another order."""
    return replace(axes, items=tuple(axes.items[place] for place in order))


def insert_axis(axes: Axes, place: int, axis: Axis) -> Axes:
    """Return the axes with another one at this position."""
    return replace(axes, items=(*axes.items[:place], axis, *axes.items[place:]))


def remove_axes(axes: Axes, places: Collection[int]) -> Axes:
    """Return the axes without those at these positions."""
    return replace(axes, items=tuple(axis for place, axis in enumerate(axes.items) if place not in places))


def replace_axis(axes: Axes, place: int, axis: Axis) -> Axes:
    """Return the axes with another one in place of the one at this position, which may be negative."""
    items = list(axes.items)
    items[place] = axis
    return replace(axes, items=tuple(items))


def reshape_axes(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """Return the axes after a reshape, which merges and splits factors; None if the factors do not fit the shape."""
    remaining: list[Factor | Axis] = []
    for axis in axes.items:
        remaining += [axis] if axis.has_extra_entries else list(axis.factors)
    items: list[Axis] = []
    for size in shape:
        taken, remaining = _take_axis(remaining, size)
        if taken is None:
            return None
        items.append(taken)
    if any(factor.size != 1 for factor in remaining):
        return None
    return replace(axes, items=tuple(items))


def _take_axis(remaining: list[Factor | Axis], size: int) -> tuple[Axis | None, list[Factor | Axis]]:
    """Return an axis of this size, made of the first factors, and the factors that remain.

    The axis is None if no sequence of factors, with the last one split if needed, has this size. An axis with extra
    entries can't be merged or split.
    """
    if size == 1:
        if remaining and remaining[0].size == 1 and isinstance(remaining[0], Factor):
            return Axis((remaining[0],)), remaining[1:]
        return Axis(()), remaining
    factors: list[Factor] = []
    missing, rest = size, list(remaining)
    while missing > 1:
        if not rest:
            return None, remaining
        head = rest.pop(0)
        if isinstance(head, Axis):
            is_whole = head.size == size and all(factor.size == 1 for factor in factors)
            return (head, rest) if is_whole else (None, remaining)
        if missing % head.size == 0:
            factors.append(head)
            missing //= head.size
        elif head.size % missing == 0:
            factors.append(Factor(head.name, missing, (*head.split_path, 0)))
            rest.insert(0, Factor(head.name, head.size // missing, (*head.split_path, 1)))
            missing = 1
        else:
            return None, remaining
    return Axis(tuple(factors)), rest


def slice_axis(axis: Axis, start: int, stop: int, step: int, size: int) -> Axis:
    """Return the axis after a slice that leaves `size` entries. Extra entries may be cut off from a grid of tokens."""
    grid = math.prod(factor.size for factor in axis.factors)
    if axis.has_extra_entries and step == 1 and start <= axis.before and stop >= axis.before + grid:
        return replace(axis, before=axis.before - start, after=stop - axis.before - grid)
    return resize_axis(axis, size)


def concatenate_axes(parts: Sequence[Axis], size: int) -> Axis:
    """Return the axis along which values were concatenated.

    If exactly one part is a grid of tokens, the other parts become its extra entries.
    """
    grids = [(place, axis) for place, axis in enumerate(parts) if axis.names & set(SPATIAL)]
    if len(grids) == 1 and len(grids[0][1].factors) > 1:
        place, grid = grids[0]
        before = sum(axis.size for axis in parts[:place]) + grid.before
        after = sum(axis.size for axis in parts[place + 1 :]) + grid.after
        return replace(grid, before=before, after=after)
    return resize_axis(next((axis for axis in parts if UNKNOWN not in axis.names), parts[0]), size)
