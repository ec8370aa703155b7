"""The decision how a value is read as maps: as asked for, by what is known of its axes, or by its shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import torch

from surgery.errors import RenderError, first_line
from surgery.layouts.axes import BATCH, CHANNEL, HEIGHT, UNKNOWN, WIDTH, Axes, Axis, Factor, axis_of
from surgery.layouts.value_layouts import Regrouped, regrouped, shown
from surgery.types import DOES_NOT_FIT, REQUESTED, LayoutDecision, ValueLayout

Shape: TypeAlias = "tuple[int, ...]"

REGISTERS = 8
"""Tokens beside those of a grid, at most, where their number is guessed from."""
VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run knows of a value beside its shape."""

    axes: Axes | None = None
    asked: ValueLayout | None = None
    image: tuple[int, int] | None = None
    """Height and width of the image that the model was given."""


NONE = Evidence()


@lru_cache(maxsize=4096)
def arrange(shape: Shape, batch: int | None, evidence: Evidence = NONE) -> LayoutDecision:
    """How a value of this shape, of so many images, is read; of a batch as one where `batch` is None.

    Raises RenderError for a layout that was asked for and raises.
    """
    axes, turned, batch_axis = evidence.axes, shape, 0
    if axes is not None and (place := _batch_axis(axes)):
        batch_axis = place
        order = [place, *(other for other in range(len(shape)) if other != place)]
        turned = tuple(shape[other] for other in order)
        axes = replace(axes, items=tuple(axes.items[other] for other in order))
    count = batch or _counted(axes) or (turned[0] if turned else 1)
    if not turned or turned[0] % max(1, count):
        return LayoutDecision(*_by_rank(turned), images=batch)
    own = turned[1:] if turned[0] == count else (turned[0] // count, *turned[1:])
    found = _decide(own, turned[0] != count, replace(evidence, axes=axes))
    return replace(found, batch_axis=batch_axis, images=count)


def _decide(own: Shape, windows: bool, evidence: Evidence) -> LayoutDecision:
    """Of the shape of one image's part."""
    refused = ""
    if evidence.asked is not None:
        if _fits(evidence.asked, own):
            return LayoutDecision(shown(evidence.asked), REQUESTED, evidence.asked)
        refused = f"{shown(evidence.asked)} {DOES_NOT_FIT}; "
    if 0 in own or (len(own) < 2 and not windows):
        name, reason = _by_rank((1, *own))
        return LayoutDecision(name, refused + reason)
    known = regrouped(evidence.axes) if evidence.axes is not None else None
    if known is not None and evidence.axes is not None and (len(own) > 1 or known[1] is not None):
        name, layout = known
        reason = f"{refused}its axes are known from {evidence.axes.origin or 'its shape'}"
        if layout is not None and layout.grids:
            beside = sum(axis.before + axis.after for axis in evidence.axes.items)
            reason += (
                f"; {beside} {'token beside the grid is' if beside == 1 else 'tokens beside the grid are'} not drawn"
            )
        sides = layout.shape[-2:] if layout is not None else own[-2:]
        return LayoutDecision(VECTOR if sides == (1, 1) else name, reason, layout)
    guessed = _guess(own, evidence) if evidence.image is not None else None
    if guessed is not None:
        return replace(guessed, reason=refused + guessed.reason)
    name, reason = _by_rank((1, *own))
    return LayoutDecision(name, refused + reason)


def _batch_axis(axes: Axes) -> int:
    """Which axis counts the images, first of all that it counts; 0 where none is known to."""
    places = (place for place, axis in enumerate(axes.items) if axis.factors and axis.factors[0].name == BATCH)
    return next(places, 0)


def _counted(axes: Axes | None) -> int | None:
    """How many images the first axis counts, if it is known to count them."""
    factor = axes.items[0].factors[0] if axes is not None and axes.items and axes.items[0].factors else None
    return factor.size if factor is not None and factor.name == BATCH else None


def _by_rank(shape: Shape) -> tuple[str, str]:
    if len(shape) <= 2:
        return VECTOR, "one value for each channel"
    if len(shape) == 3:
        return (
            (VECTOR, "one line of values") if shape[1] == 1 else ("flat", "nothing tells which of its axes are places")
        )
    if len(shape) == 4 and shape[2:] == (1, 1):
        return VECTOR, "maps of one value"
    return "channels-first", f"nothing tells otherwise of its {len(shape)} axes"


def _guess(own: Shape, evidence: Evidence) -> LayoutDecision | None:
    """Tokens on a grid that the image gives at a whole stride, if there is one such grid alone."""
    axes = evidence.axes.items if evidence.axes is not None else ()
    if evidence.image is None or (axes and axes[0].factors and axes[0].factors[0].name not in (BATCH, UNKNOWN)):
        return None
    last = axes[-1].names if axes else set()
    if len(own) == 3 and not last - {CHANNEL, UNKNOWN}:
        return _guess_windows(own, evidence.image)
    if len(own) != 2:
        return None
    place = 1 if len(axes) == 3 and axes[1].names == {CHANNEL} else 0
    if len(axes) == 3 and axes[place + 1].names - {UNKNOWN}:
        return None  # something else than places
    grids = _grids(evidence.image, own[place])
    if len(grids) != 1:
        return None
    (rows, columns), beside = grids[0]
    tokens = Axis((Factor(HEIGHT, rows), Factor(WIDTH, columns)), before=beside)
    items = [tokens, axis_of(CHANNEL, own[1 - place])]
    found = regrouped(Axes((axis_of(BATCH, 1), *(items[::-1] if place else items))))
    made = f"{own[place]} = {f'{beside} + ' if beside else ''}{rows}x{columns}"
    said = f"guessed: {made}, in the proportions of the image"
    return LayoutDecision(f"tokens:{rows}x{columns}", said, found[1]) if found is not None else None


def _guess_windows(own: Shape, image: tuple[int, int]) -> LayoutDecision | None:
    """Square windows that together make one such grid."""
    windows, tokens, channels = own
    side = round(tokens**0.5)
    grids = [grid for grid, beside in _grids(image, windows * tokens) if not beside]
    if len(grids) != 1 or windows == 1 or side < 2 or side * side != tokens:
        return None
    rows, columns = grids[0]
    if rows % side or columns % side:
        return None
    factors = (rows // side, columns // side, side, side, channels)
    layout = Regrouped((), factors, (4, 0, 2, 1, 3), (channels, rows, columns))
    said = f"guessed: {windows} windows of {tokens} make {rows}x{columns}, in the proportions of the image"
    return LayoutDecision(f"windows:{side}x{side}", said, layout)


def _grids(image: tuple[int, int], count: int) -> list[tuple[tuple[int, int], int]]:
    """Grids at a whole stride over an image that have so many places, or up to `REGISTERS` fewer; and how many."""
    height, width = image
    strides = [stride for stride in range(2, min(height, width) + 1) if not height % stride and not width % stride]
    found = [((height // stride, width // stride), count - height // stride * (width // stride)) for stride in strides]
    exact = [each for each in found if each[1] == 0 and min(each[0]) > 1]
    return exact or [each for each in found if 0 < each[1] <= REGISTERS and min(each[0]) > 3]


def _fits(layout: ValueLayout, own: Shape) -> bool:
    try:
        maps = layout(torch.empty((1, *own), device="meta"))
    except Exception as error:
        raise RenderError(f"layout {shown(layout)} can't take {(1, *own)}: {first_line(error)}") from error
    if maps is None:
        return False
    if not isinstance(maps, torch.Tensor) or maps.ndim not in (4, 5) or len(maps) != 1:
        given = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise RenderError(f"layout {shown(layout)} has to give (B, C, H, W) or None, not {given}")
    return True
