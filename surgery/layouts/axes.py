"""What each axis of a value stands for: batch, channel, height, width, or several of them merged into one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH, CHANNEL, DEPTH, HEIGHT, WIDTH = "batch", "channel", "depth", "height", "width"
UNKNOWN = ""
KEY = "key"
"""Places that are attended to, beside those that attend."""
SPATIAL = (DEPTH, HEIGHT, WIDTH)


@dataclass(frozen=True, slots=True)
class Factor:
    """One thing that an axis counts."""

    name: str
    size: int
    split_path: tuple[int, ...] = ()
    """Where it was split off: of a height of 56 in windows of 7, ``(0,)`` counts 8 windows and ``(1,)`` 7 lines."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: the product of its factors, in memory order, with entries of another kind before and after them."""

    factors: tuple[Factor, ...]
    before: int = 0
    """Class and register tokens that stand before those of the grid."""
    after: int = 0

    @property
    def size(self) -> int:
        return math.prod(factor.size for factor in self.factors) + self.before + self.after

    @property
    def names(self) -> set[str]:
        """Those of its factors; factors of size 1 do not count."""
        return {factor.name for factor in self.factors if factor.size > 1}

    @property
    def has_extra_entries(self) -> bool:
        """Whether it has entries that belong to no factor."""
        return bool(self.before or self.after)


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a value, and the operation that they are known from."""

    items: tuple[Axis, ...]
    origin: str = ""
    """In words: ``conv_proj (conv2d)``."""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.items)

    @property
    def is_known(self) -> bool:
        """Whether there is a name for each axis that has more than one entry."""
        return all(UNKNOWN not in axis.names for axis in self.items)


def simple_axis(name: str, size: int) -> Axis:
    """An axis that counts one thing."""
    return Axis((Factor(name, size),))


def named_axes(shape: Sequence[int], names: Sequence[str], origin: str) -> Axes:
    """Axes of these sizes and names."""
    return Axes(tuple(simple_axis(name, size) for name, size in zip(names, shape, strict=True)), origin)


def unknown_axes(shape: Sequence[int]) -> Axes:
    """Axes of which nothing is known."""
    return Axes(tuple(simple_axis(UNKNOWN, size) for size in shape))


def resize_axis(axis: Axis, size: int) -> Axis:
    """An axis that counts the same thing, of another size."""
    if axis.size == size:
        return axis
    if len(axis.factors) == 1 and not axis.has_extra_entries:
        return Axis((replace(axis.factors[0], size=size),))
    names = {factor.name for factor in axis.factors}
    return simple_axis(names.pop() if len(names) == 1 else UNKNOWN, size)


def permute_axes(axes: Axes, order: Sequence[int]) -> Axes:
    """The axes in another order."""
    return replace(axes, items=tuple(axes.items[place] for place in order))


def reshape_axes(axes: Axes, shape: Sequence[int]) -> Axes | None:
    """The axes after a reshape: factors are merged and split as their sizes say; None where they do not fit."""
    waiting: list[Factor | Axis] = []
    for axis in axes.items:
        waiting += [axis] if axis.has_extra_entries else list(axis.factors)
    made: list[Axis] = []
    for size in shape:
        taken, rest = _take_axis(waiting, size)
        if taken is None:
            return None
        made.append(taken)
        waiting = rest
    if any(each.size != 1 for each in waiting):
        return None
    return replace(axes, items=tuple(made))


def _take_axis(waiting: list[Factor | Axis], size: int) -> tuple[Axis | None, list[Factor | Axis]]:
    """An axis of this size from the head of the factors that wait, and those that are left."""
    if size == 1:
        head = waiting[:1]
        if head and head[0].size == 1 and isinstance(head[0], Factor):
            return Axis((head[0],)), waiting[1:]
        return Axis(()), waiting
    found: list[Factor] = []
    left, rest = size, list(waiting)
    while left > 1:
        if not rest:
            return None, waiting
        head_one = rest.pop(0)
        if isinstance(head_one, Axis):
            return (head_one, rest) if head_one.size == size and not _counts(found) else (None, waiting)
        if left % head_one.size == 0:
            found.append(head_one)
            left //= head_one.size
        elif head_one.size % left == 0:
            found.append(Factor(head_one.name, left, (*head_one.split_path, 0)))
            rest.insert(0, Factor(head_one.name, head_one.size // left, (*head_one.split_path, 1)))
            left = 1
        else:
            return None, waiting
    return Axis(tuple(found)), rest


def _counts(found: Sequence[Factor]) -> bool:
    return any(factor.size > 1 for factor in found)


def slice_axis(axis: Axis, start: int, stop: int, step: int, size: int) -> Axis:
    """What is left of an axis; `size` is how much."""
    grid = math.prod(factor.size for factor in axis.factors)
    if axis.has_extra_entries and step == 1 and start <= axis.before and stop >= axis.before + grid:
        return replace(axis, before=axis.before - start, after=stop - axis.before - grid)
    return resize_axis(axis, size)


def concatenate_axes(parts: Sequence[Axis], size: int) -> Axis:
    """An axis along which values were concatenated: more channels, or tokens of another kind beside those of a grid."""
    grids = [(place, axis) for place, axis in enumerate(parts) if axis.names & set(SPATIAL)]
    if len(grids) == 1 and len(grids[0][1].factors) > 1:
        place, grid = grids[0]
        before = sum(axis.size for axis in parts[:place]) + grid.before
        after = sum(axis.size for axis in parts[place + 1 :]) + grid.after
        return replace(grid, before=before, after=after)
    return resize_axis(next((axis for axis in parts if UNKNOWN not in axis.names), parts[0]), size)


def resize_axes(axes: Axes, shape: Sequence[int]) -> Axes:
    """Axes of the same names and other sizes."""
    return replace(axes, items=tuple(resize_axis(axis, size) for axis, size in zip(axes.items, shape, strict=True)))


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor that an operation was given."""

    shape: tuple[int, ...]
    axes: Axes


@dataclass(frozen=True, slots=True)
class Call:
    """An operation that has run, and the shape of one tensor that it gave."""

    kind: str
    """What is called: ``conv2d``, ``permute``."""
    label: str
    """In words: ``features.0.0 (conv2d)``."""
    args: Sequence[Any]
    """As they were given, with an `Operand` for each tensor."""
    options: dict[str, Any]
    shape: tuple[int, ...]

    @property
    def operands(self) -> list[Operand]:
        """The tensors that it was given, in order."""
        return [each for each in flatten_nested([*self.args, *self.options.values()]) if isinstance(each, Operand)]

    def option(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place among all, or by its name."""
        return self.args[place] if len(self.args) > place else self.options.get(name, default)


def flatten_nested(given: Sequence[Any]) -> list[Any]:
    """What is in lists and tuples, to any depth, in order."""
    found: list[Any] = []
    for each in given:
        found += flatten_nested(each) if isinstance(each, (tuple, list)) else [each]
    return found
