"""Where the maps of an activation lie in its pictures, and laying them there."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.stages import TileLayout, declared_attribute
from surgery.text import describe_stage
from surgery.types import BACKGROUND

try:
    from surgery.drawing import _kernels
except ImportError:  # no compiler was there on installation: torch does the same
    _kernels = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from torch import Size, Tensor

    from surgery.drawing._kernels import Grid
    from surgery.stages import Tiler

MIN_DIRECT_WIDTH = 48
"""Maps narrower than this are quicker laid by themselves, since codes are made many at a time."""


def find_tile_layout(tiler: Tiler, shape: Size) -> TileLayout | None:
    """How a tiler lays maps ``(B, C, H, W)``, if it says so. Raises RenderError where it does not say it of these."""
    say = declared_attribute(tiler, "layout")
    if not callable(say):  # an option of that name, perhaps
        return None
    try:
        layout = say(*shape[1:])
    except Exception as error:
        raise RenderError(
            f"tiler {describe_stage(tiler)} can't lay out {tuple(shape)}: {describe_error(error)}"
        ) from error
    if layout is None:  # not of these maps
        return None
    if not isinstance(layout, TileLayout) or layout.maps > shape[1]:
        raise RenderError(f"tiler {describe_stage(tiler)} has to give a layout of {shape[1]} maps, not {layout!r}")
    return layout


def tile_codes(codes: Tensor, layout: TileLayout) -> Tensor:
    """``(B, C, H, W)`` uint8 -> ``(B, N, H', 1 + W')``: on a background, with a zero before each line.

    So a PNG file has them: that is its name for a line that is not filtered.
    """
    shown = codes if layout.maps >= codes.shape[1] else codes[:, : layout.maps]
    if missing := -layout.maps % layout.tiles:
        import torch

        shown = torch.nn.functional.pad(shown, (0, 0, 0, 0, 0, missing), value=BACKGROUND)
    if _kernels is None or codes.device.type != "cpu" or codes.element_size() != 1 or not shown.numel():
        return _tile_by_torch(shown, layout)
    canvas = codes.new_empty(canvas_shape(layout, shown.shape))
    _kernels.lay(shown.contiguous().numpy(), canvas.numpy(), kernel_grid(layout, shown.shape))
    return canvas


def untile_codes(lines: Tensor, layout: TileLayout, shape: Size) -> Tensor:
    """The codes ``(B, C, H, W)`` of what `tile_codes` gives, for a layout that shows all of them as they are."""
    height, width = shape[2:]
    tall, wide = height + layout.gap, width + layout.gap
    rows = math.ceil(layout.tiles / layout.columns)
    # One more gap at the end of each line and picture, so that all tiles are alike.
    filled = lines.new_empty((*lines.shape[:2], rows * tall, layout.columns * wide))
    filled[:, :, : lines.shape[2], : lines.shape[3] - 1] = lines[..., 1:]
    cells = filled.unflatten(3, (layout.columns, wide)).unflatten(2, (rows, tall))
    tiles: Tensor = cells[:, :, :, :height, :, :width].transpose(3, 4).flatten(2, 3)
    return tiles[:, :, : layout.tiles].flatten(1, 2)


def is_written_directly(layout: TileLayout, shape: Size) -> bool:
    """Whether codes of maps ``(B, C, H, W)`` are best made where they lie: all are shown as they are."""
    even = layout.maps % layout.tiles == 0
    return even and layout.factor == 1 and layout.maps == shape[1] and shape[3] >= MIN_DIRECT_WIDTH


def canvas_shape(layout: TileLayout, shape: Size) -> tuple[int, int, int, int]:
    """The shape of what `tile_codes` gives of maps ``(B, C, H, W)``, of which all are shown."""
    batch, count, height, width = shape
    rows = math.ceil(layout.tiles / layout.columns)
    tall, wide = height * layout.factor + layout.gap, width * layout.factor + layout.gap
    return batch, count // layout.tiles, rows * tall - layout.gap, 1 + layout.columns * wide - layout.gap


def kernel_grid(layout: TileLayout, shape: Size) -> Grid:
    """The same for the compiled passes."""
    return layout.tiles, shape[2], shape[3], layout.columns, layout.factor, layout.gap, 1, BACKGROUND


def _tile_by_torch(shown: Tensor, layout: TileLayout) -> Tensor:
    columns, factor, gap = layout.columns, layout.factor, layout.gap
    count, height, width = layout.tiles, *shown.shape[2:]
    pictures = shown.shape[1] // count
    levels = shown.reshape(len(shown) * pictures, count, height, width)
    rows, full = math.ceil(count / columns), count // columns
    tall, wide = height * factor + gap, width * factor + gap
    lines = levels.new_empty((len(levels), rows * tall, 1 + columns * wide))
    lines[..., 0] = 0
    canvas = lines[..., 1:].unflatten(2, (columns, wide)).unflatten(1, (rows, tall))
    canvas[:, :, height * factor :] = BACKGROUND
    canvas[..., width * factor :] = BACKGROUND
    canvas[:, full:, :, count - full * columns :] = BACKGROUND
    if factor > 1:
        levels = levels.repeat_interleave(factor, 3)
    # A tile is cells[:, row, :, :, column], each of its lines `factor` times.
    cells = canvas[:, :, : height * factor, :, : width * factor].unflatten(2, (height, factor))
    if full:
        tiles = levels[:, : full * columns].unflatten(1, (full, columns)).transpose(2, 3)
        cells[:, :full].copy_(tiles.unsqueeze(3).expand_as(cells[:, :full]))
    if rest := count - full * columns:
        last = cells[:, full, :, :, :rest]
        last.copy_(levels[:, full * columns :].transpose(1, 2).unsqueeze(2).expand_as(last))
    whole = lines.view(len(shown), pictures, *lines.shape[1:])
    return whole[:, :, : rows * tall - gap, : 1 + columns * wide - gap]
