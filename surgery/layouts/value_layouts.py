"""How the values of an activation are read as maps: by their number of axes, by what is known of them, or as asked for.

A layout is a function of the values of each image, ``(B, ...)``, that gives ``(B, C, H, W)``, or None where it does not
fit them. ``(B, C, D, H, W)`` will do as well: the slices of a volume are laid side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from surgery.errors import RenderError, did_you_mean
from surgery.layouts.axes import BATCH, CHANNEL, DEPTH, HEIGHT, KEY, SPATIAL, UNKNOWN, WIDTH
from surgery.text import describe_stage
from surgery.types import ValueLayout

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.layouts.axes import Axes, Axis, Factor

EXTRA = 16
"""Tokens beside those of a grid, at most: class and register tokens."""


@dataclass(frozen=True, slots=True)
class ChannelsFirst:
    """``(B, C, H, W)``: the first axis behind the batch counts channels."""

    def __call__(self, values: Tensor, /) -> Tensor | None:
        return values if values.ndim in (4, 5) else None

    def __str__(self) -> str:
        return "channels-first"


@dataclass(frozen=True, slots=True)
class ChannelsLast:
    """``(B, H, W, C)``: the last axis counts channels."""

    def __call__(self, values: Tensor, /) -> Tensor | None:
        return values.movedim(-1, 1) if values.ndim in (4, 5) else None

    def __str__(self) -> str:
        return "channels-last"


@dataclass(frozen=True, slots=True)
class Tokens:
    """``(B, T, D)``: the last `rows` x `columns` tokens lie on a grid, line by line. Those before are not drawn."""

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise RenderError(f"a grid of tokens is at least 1x1, not {self.rows}x{self.columns}")

    def __call__(self, values: Tensor, /) -> Tensor | None:
        count = self.rows * self.columns
        beside = values.shape[-2] - count if values.ndim in (3, 4) else -1
        if not 0 <= beside <= (EXTRA if values.ndim == 3 else 0):  # of four axes, tokens of windows alone
            return None
        grid = values.narrow(-2, beside, count).unflatten(-2, (self.rows, self.columns))
        maps: Tensor = grid.movedim(-1, -3)
        return maps if values.ndim == 3 else maps.flatten(1, 2)

    def left_out(self, values: Tensor, /) -> Tensor | None:
        """The tokens that are not drawn."""
        count = values.shape[-2] - self.rows * self.columns
        return values.narrow(-2, 0, count) if count else None

    def __str__(self) -> str:
        return f"tokens:{self.rows}x{self.columns}"


@dataclass(frozen=True, slots=True)
class Flat:
    """All values of an image in one map, whose lines are those of the last axis."""

    def __call__(self, values: Tensor, /) -> Tensor | None:
        return values.reshape(len(values), 1, -1, values.shape[-1]) if values.ndim > 2 else None

    def __str__(self) -> str:
        return "flat"


@dataclass(frozen=True, slots=True)
class Regrouped:
    """Values whose axes are known factor by factor, put in order: channels, lines, columns."""

    grids: tuple[tuple[int, int, int], ...]
    """Axes that hold more than a grid: which, from where, how many."""
    factors: tuple[int, ...]
    """Sizes behind the batch, as they lie in memory."""
    order: tuple[int, ...]
    shape: tuple[int, ...]
    """Of the maps, behind the batch."""

    def __call__(self, values: Tensor, /) -> Tensor:
        for axis, start, count in self.grids:
            values = values.narrow(axis, start, count)
        parts = values.reshape(len(values), *self.factors)
        return parts.permute(0, *(place + 1 for place in self.order)).reshape(len(values), *self.shape)

    def left_out(self, values: Tensor, /) -> Tensor | None:
        """The tokens that are not drawn."""
        found = []
        for axis, start, count in self.grids:
            size = values.shape[axis]
            rest = torch.cat(
                (values.narrow(axis, 0, start), values.narrow(axis, start + count, size - start - count)), axis
            )
            found.append(rest.flatten(1))
            values = values.narrow(axis, start, count)
        return torch.cat(found, 1) if found else None


def layout_named(text: str) -> ValueLayout | None:
    """The layout that a text names; None for ``auto``. Raises RenderError where none is called so."""
    name, _, grid = text.partition(":")
    plain: dict[str, ValueLayout | None] = {
        "auto": None,
        "channels-first": ChannelsFirst(),
        "channels-last": ChannelsLast(),
        "flat": Flat(),
    }
    if name in plain and not grid:
        return plain[name]
    if name == "tokens":
        sides = grid.lower().replace("×", "x").split("x")
        if len(sides) == 2 and all(side.isdecimal() and int(side) for side in sides):
            return Tokens(int(sides[0]), int(sides[1]))
        raise RenderError(f"a layout of tokens names their grid, as in tokens:14x14, not {text!r}")
    near = did_you_mean(name, [*plain, "tokens"])
    raise RenderError(f"no layout is called {text!r}; there is {', '.join(plain)} and tokens:ROWSxCOLUMNS{near}")


@dataclass(frozen=True, slots=True)
class LayoutRule:
    """A layout that was asked for, for all operations or for those of some paths."""

    layout: ValueLayout | None
    """None: whatever is found."""
    at: str = ""
    """The selection, as it was written; empty for all operations."""
    paths: frozenset[str] | None = None
    """Those of the operations that it selects; None for all operations."""

    def __str__(self) -> str:
        name = "auto" if self.layout is None else shown(self.layout)
        return f"{self.at}={name}" if self.at else name


def regrouped(axes: Axes) -> tuple[str, Regrouped | None] | None:
    """The name of the layout of axes whose first is the batch, and what puts them in order, if that is to be done.

    None where they are no maps: height or width is missing, or is there twice.
    """
    items = axes.items
    if not items or not items[0].factors or items[0].factors[0].name != BATCH:
        return None
    lead = items[0].factors[1:]
    parts: list[tuple[int, Axis | tuple[Factor, ...]]] = [(0, lead)] if lead else []
    grids: list[tuple[int, int, int]] = []
    for place, axis in enumerate(items[1:], 2 if lead else 1):
        parts.append((place, axis.factors))
        if axis.mixed:
            grids.append((place, axis.before, math.prod(factor.size for factor in axis.factors)))
    factors = [(place, factor) for place, group in parts for factor in group]  # type: ignore[union-attr]
    known = [(factor.name, factor.part) for _, factor in factors if factor.size > 1]
    if len(set(known)) < len(known) or any(name == BATCH for name, _ in known):
        return None
    of = {name: [n for n, (_, factor) in enumerate(factors) if factor.name == name] for name in (*SPATIAL, CHANNEL)}
    if not of[HEIGHT] or not of[WIDTH] or any(name == KEY for name, _ in known):
        return None
    channels = [n for n, (_, factor) in enumerate(factors) if factor.name not in SPATIAL]
    if all(factors[n][1].name == CHANNEL for n in channels):
        channels.sort(key=lambda n: factors[n][1].part)
    elif sum(factors[n][1].name == UNKNOWN and factors[n][1].size > 1 for n in channels) > 1:
        return None
    groups = [channels, *([of[DEPTH]] if of[DEPTH] else []), of[HEIGHT], of[WIDTH]]
    groups[1:] = [sorted(group, key=lambda n: factors[n][1].part) for group in groups[1:]]
    order = tuple(n for group in groups for n in group)
    sizes = tuple(factor.size for _, factor in factors)
    shape = tuple(math.prod(sizes[n] for n in group) for group in groups)
    name = _name(factors, channels, of, shape)
    plain = order == tuple(range(len(order))) and not grids and len(items) == len(shape) + 1 and not lead
    return name, None if plain else Regrouped(tuple(grids), sizes, order, shape)


def _name(
    factors: list[tuple[int, Factor]], channels: list[int], of: dict[str, list[int]], shape: tuple[int, ...]
) -> str:
    height, width = ([factors[n] for n in of[name] if factors[n][1].size > 1] for name in (HEIGHT, WIDTH))
    if len({place for place, _ in height}) > 1 or len({place for place, _ in width}) > 1:
        inner = (math.prod(f.size for place, f in group if place == group[-1][0]) for group in (height, width) if group)
        return f"windows:{'x'.join(map(str, inner))}"
    if {place for place, _ in height} & {place for place, _ in width}:
        return f"tokens:{shape[-2]}x{shape[-1]}"
    last = max((n for group in (of[HEIGHT], of[WIDTH]) for n in group), default=0)
    return "channels-last" if channels and min(channels) > last else "channels-first"


def shown(layout: ValueLayout) -> str:
    """A layout as the command line writes it; of one's own, where it is from."""
    return str(layout) if "__str__" in vars(type(layout)) else describe_stage(layout)
