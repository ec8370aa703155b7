"""Guesses of a token grid: a number of tokens that makes a grid with the proportions of the image."""

from __future__ import annotations

from typing import TypeAlias

from surgery.layouts.axes import BATCH, CHANNEL, HEIGHT, LENGTH, UNKNOWN, WIDTH, Axes, Axis, Factor, simple_axis
from surgery.layouts.layout_from_axes import AxisLayout, layout_from_axes
from surgery.types import LayoutDecision

Shape: TypeAlias = "tuple[int, ...]"

MAX_EXTRA_TOKENS = 8
"""A guess allows at most this many tokens before the grid, such as class and register tokens."""


def guess_layout(shape: Shape, axes: Axes | None, image_size: tuple[int, int]) -> LayoutDecision | None:
    """Return tokens or windows on a grid for one image's values of `shape`; None unless exactly one grid fits.

    A grid fits if a whole stride over the image of `image_size` gives its height and width. `axes` includes the batch.
    """
    items = axes.items if axes is not None else ()
    if items and items[0].factors and items[0].factors[0].name not in (BATCH, UNKNOWN):
        return None
    last_names = items[-1].names if items else set()
    if len(shape) == 3 and not last_names - {CHANNEL, UNKNOWN}:
        return _guess_windows(shape, image_size)
    return _guess_tokens(shape, items, image_size) if len(shape) == 2 else None


def _guess_tokens(shape: Shape, items: tuple[Axis, ...], image_size: tuple[int, int]) -> LayoutDecision | None:
    """Return tokens ``(T, D)``, or ``(D, T)`` if the first axis is known to count channels."""
    token_axis = 1 if len(items) == 3 and items[1].names == {CHANNEL} else 0
    if len(items) == 3 and items[token_axis + 1].names - {UNKNOWN, LENGTH}:
        return None  # the axis is known to count something else
    grids = _candidate_grids(image_size, shape[token_axis])
    if len(grids) != 1:
        return None
    (rows, columns), extra = grids[0]
    tokens = Axis((Factor(HEIGHT, rows), Factor(WIDTH, columns)), before=extra)
    channels = simple_axis(CHANNEL, shape[1 - token_axis])
    ordered = (channels, tokens) if token_axis else (tokens, channels)
    found = layout_from_axes(Axes((simple_axis(BATCH, 1), *ordered)))
    if found is None:
        return None
    sum_text = f"{shape[token_axis]} = {f'{extra} + ' if extra else ''}{rows}x{columns}"
    reason = f"guessed: {sum_text}, in the proportions of the image"
    return LayoutDecision(f"tokens:{rows}x{columns}", reason, found[1], is_guessed=True)


def _guess_windows(shape: Shape, image_size: tuple[int, int]) -> LayoutDecision | None:
    """Return square windows ``(windows, T, D)`` that together cover one grid."""
    windows, tokens, channels = shape
    side = round(tokens**0.5)
    grids = [grid for grid, extra in _candidate_grids(image_size, windows * tokens) if not extra]
    if len(grids) != 1 or windows == 1 or side < 2 or side * side != tokens:
        return None
    rows, columns = grids[0]
    if rows % side or columns % side:
        return None
    factors = (rows // side, columns // side, side, side, channels)
    layout = AxisLayout((), factors, (4, 0, 2, 1, 3), (channels, rows, columns))
    reason = f"guessed: {windows} windows of {tokens} make {rows}x{columns}, in the proportions of the image"
    return LayoutDecision(f"windows:{side}x{side}", reason, layout, is_guessed=True)


def _candidate_grids(image_size: tuple[int, int], count: int) -> list[tuple[tuple[int, int], int]]:
    """Return grids (height, width), each with the number of extra tokens that make up `count`.

    Grids without extra tokens win over all others.
    """
    height, width = image_size
    strides = [stride for stride in range(2, min(height, width) + 1) if not height % stride and not width % stride]
    grids = [((height // stride, width // stride), count - height // stride * (width // stride)) for stride in strides]
    exact = [(grid, extra) for grid, extra in grids if extra == 0 and min(grid) > 1]
    return exact or [(grid, extra) for grid, extra in grids if 0 < extra <= MAX_EXTRA_TOKENS and min(grid) > 3]
