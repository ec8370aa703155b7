"""The layouts that a user can request, and their names on the command line.

A layout is a function: values ``(B, ...)`` -> maps ``(B, C, H, W)``, or None if it does not fit their shape. It may
also return ``(B, C, D, H, W)``: the D slices of a volume are drawn side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.errors import RenderError, did_you_mean
from surgery.text import describe_stage
from surgery.types import ValueLayout

if TYPE_CHECKING:
    from torch import Tensor

MAX_EXTRA_TOKENS = 16
"""`Tokens` accepts at most this many tokens before the grid, such as class and register tokens."""


@dataclass(frozen=True, slots=True)
class ChannelsFirst:
    """``(B, C, H, W)`` or ``(B, C, D, H, W)``: axis 1 counts channels."""

    def __call__(self, values: Tensor, /) -> Tensor | None:
        return values if values.ndim in (4, 5) else None

    def __str__(self) -> str:
        return "channels-first"


@dataclass(frozen=True, slots=True)
class ChannelsLast:
    """``(B, H, W, C)`` or ``(B, D, H, W, C)``: the last axis counts channels."""

    def __call__(self, values: Tensor, /) -> Tensor | None:
        return values.movedim(-1, 1) if values.ndim in (4, 5) else None

    def __str__(self) -> str:
        return "channels-last"


@dataclass(frozen=True, slots=True)
class Tokens:
    """``(B, T, D)``: the last ``rows * columns`` tokens lie on a grid, row by row. Tokens before them are not drawn.

    For values ``(B, heads, T, D)``, T is exactly ``rows * columns``, and each head has D channels.
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise RenderError(f"a grid of tokens is at least 1x1, not {self.rows}x{self.columns}")

    def __call__(self, values: Tensor, /) -> Tensor | None:
        count = self.rows * self.columns
        extra = values.shape[-2] - count if values.ndim in (3, 4) else -1
        if not 0 <= extra <= (MAX_EXTRA_TOKENS if values.ndim == 3 else 0):
            return None
        grid = values.narrow(-2, extra, count).unflatten(-2, (self.rows, self.columns))
        maps: Tensor = grid.movedim(-1, -3)
        return maps if values.ndim == 3 else maps.flatten(1, 2)

    def left_out(self, values: Tensor, /) -> Tensor | None:
        """Return the tokens that are not drawn, ``(B, n, D)``; None if there are none."""
        extra = values.shape[-2] - self.rows * self.columns
        return values.narrow(-2, 0, extra) if extra else None

    def __str__(self) -> str:
        return f"tokens:{self.rows}x{self.columns}"


@dataclass(frozen=True, slots=True)
class Flat:
    """All values of an image in one map, with one row for each entry of the axes before the last."""

    def __call__(self, values: Tensor, /) -> Tensor | None:
        return values.reshape(len(values), 1, -1, values.shape[-1]) if values.ndim > 2 else None

    def __str__(self) -> str:
        return "flat"


def parse_layout(text: str) -> ValueLayout | None:
    """Return the layout that a text such as ``tokens:14x14`` names; None for ``auto``.

    Raises RenderError for an unknown layout.
    """
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


def layout_text(layout: ValueLayout) -> str:
    """Return the layout's command-line name; for a user's function, its name and source line."""
    return str(layout) if "__str__" in vars(type(layout)) else describe_stage(layout)
