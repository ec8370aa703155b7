"""The choice of how a tensor is read as maps: the requested layout, else the known axes, else the shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import torch

from surgery.errors import RenderError, first_line
from surgery.layouts.axes import BATCH, Axes, permute_axes
from surgery.layouts.layout_from_axes import layout_from_axes
from surgery.layouts.layout_from_shape import guess_layout
from surgery.layouts.layout_functions import layout_text
from surgery.types import LayoutDecision, ValueLayout

Shape: TypeAlias = "tuple[int, ...]"

VECTOR = "vector"


@dataclass(frozen=True, slots=True)
class LayoutHints:
    """What is known about a tensor besides its shape."""

    axes: Axes | None = None
    """The meaning of each axis; None if it is unknown."""
    requested: ValueLayout | None = None
    """The layout that the user requested for it."""
    image_size: tuple[int, int] | None = None
    """Height and width of the input image."""


NO_HINTS = LayoutHints()


@lru_cache(maxsize=4096)
def decide_layout(shape: Shape, batch: int | None, hints: LayoutHints = NO_HINTS) -> LayoutDecision:
    """Return how values of `shape` are read as maps.

    `batch` is the number of images; None if the tensor is one activation of the whole batch. Raises RenderError if the
    requested layout raises, or returns something other than ``(B, C, H, W)``, ``(B, C, D, H, W)`` or None.
    """
    axes, batch_axis = hints.axes, 0
    if axes is not None and (batch_axis := _find_batch_axis(axes)):
        order = [batch_axis, *(axis for axis in range(len(shape)) if axis != batch_axis)]
        shape = tuple(shape[axis] for axis in order)
        axes = permute_axes(axes, order)
    count = batch or _known_batch_size(axes) or (shape[0] if shape else 1)
    if not shape or shape[0] % max(1, count):
        return replace(_default_layout(shape), images=batch)
    has_windows = shape[0] != count
    own_shape = (shape[0] // count, *shape[1:]) if has_windows else shape[1:]
    found = _decide_for_image(own_shape, has_windows, replace(hints, axes=axes))
    return replace(found, batch_axis=batch_axis, images=count)


def _find_batch_axis(axes: Axes) -> int:
    """Return the axis whose outermost factor is the batch; 0 if there is none."""
    places = (place for place, axis in enumerate(axes.items) if axis.factors and axis.factors[0].name == BATCH)
    return next(places, 0)


def _known_batch_size(axes: Axes | None) -> int | None:
    """Return the number of images along the first axis; None if the axis is not known to count images."""
    factor = axes.items[0].factors[0] if axes is not None and axes.items and axes.items[0].factors else None
    return factor.size if factor is not None and factor.name == BATCH else None


def _decide_for_image(shape: Shape, has_windows: bool, hints: LayoutHints) -> LayoutDecision:
    """Return the layout of one image's part. If `has_windows` is true, its first axis counts windows."""
    requested = hints.requested
    if requested is None:
        return _decide_without_request(shape, has_windows, hints)
    if _fits(requested, shape):
        return LayoutDecision(layout_text(requested), "requested", requested, is_requested=True)
    found = _decide_without_request(shape, has_windows, hints)
    reason = f"{layout_text(requested)} was requested but does not fit; {found.reason}"
    return replace(found, reason=reason, is_fallback=True)


def _decide_without_request(shape: Shape, has_windows: bool, hints: LayoutHints) -> LayoutDecision:
    if 0 in shape or (len(shape) < 2 and not has_windows):
        return _default_layout((1, *shape))
    found = _decide_by_axes(shape, hints.axes) if hints.axes is not None else None
    if found is None and hints.image_size is not None:
        found = guess_layout(shape, hints.axes, hints.image_size)
    return found or _default_layout((1, *shape))


def _decide_by_axes(shape: Shape, axes: Axes) -> LayoutDecision | None:
    """Return the layout that follows from the known axes; None if none does."""
    known = layout_from_axes(axes)
    if known is None or (len(shape) < 2 and known[1] is None):
        return None
    name, layout = known
    reason = f"its axes are known from {axes.origin or 'its shape'}"
    if layout is not None and layout.grids:
        count = sum(axis.before + axis.after for axis in axes.items)
        reason += f"; {count} {'token' if count == 1 else 'tokens'} beside the grid "
        reason += f"{'is' if count == 1 else 'are'} not drawn"
    sides = layout.shape[-2:] if layout is not None else shape[-2:]
    return LayoutDecision(VECTOR if sides == (1, 1) else name, reason, layout)


def _default_layout(shape: Shape) -> LayoutDecision:
    """Return the layout for `shape`, with the batch, if nothing is known about its axes."""
    if len(shape) <= 2:
        return LayoutDecision(VECTOR, "one value for each channel")
    if len(shape) == 3 and shape[1] == 1:
        return LayoutDecision(VECTOR, "one line of values")
    if len(shape) == 3:
        return LayoutDecision("flat", "by default, since its spatial axes are unknown")
    if len(shape) == 4 and shape[2:] == (1, 1):
        return LayoutDecision(VECTOR, "maps of one value each")
    return LayoutDecision("channels-first", f"by default for {len(shape)} axes")


def _fits(layout: ValueLayout, shape: Shape) -> bool:
    """Return whether a requested layout returns maps for one image of `shape`. Raises RenderError if it fails."""
    try:
        maps = layout(torch.empty((1, *shape), device="meta"))
    except Exception as error:
        raise RenderError(f"layout {layout_text(layout)} can't take {(1, *shape)}: {first_line(error)}") from error
    if maps is None:
        return False
    if not isinstance(maps, torch.Tensor) or maps.ndim not in (4, 5) or len(maps) != 1:
        returned = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise RenderError(f"layout {layout_text(layout)} has to return (B, C, H, W) or None, not {returned}")
    return True
