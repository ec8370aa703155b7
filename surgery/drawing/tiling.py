"""The places of maps in pictures, and codes written to these places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from surgery.drawing import compiled_kernels
from surgery.drawing.declared_attributes import declared_attribute
from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.stages import TileLayout
from surgery.text import describe_stage
from surgery.types import BACKGROUND

if TYPE_CHECKING:
    from torch import Size, Tensor

    from surgery.drawing._kernels import Grid
    from surgery.stages import Tiler

MIN_DIRECT_WIDTH = 48
"""Codes of narrower maps are faster tiled after they are computed, since the kernels compute many codes at once."""


def find_tile_layout(tiler: Tiler, shape: Size) -> TileLayout | None:
    """Return the layout that a tiler declares for maps ``(B, C, H, W)``; None if it declares none.

    Raises RenderError if its method ``layout`` raises, or returns something else.
    """
    declared = declared_attribute(tiler, "layout")
    if not callable(declared):  # it may be an option of that name
        return None
    try:
        layout = declared(*shape[1:])
    except Exception as error:
        raise RenderError(
            f"tiler {describe_stage(tiler)} can't lay out {tuple(shape)}: {describe_error(error)}"
        ) from error
    if layout is None:
        return None
    if not isinstance(layout, TileLayout) or layout.maps > shape[1]:
        raise RenderError(f"tiler {describe_stage(tiler)} has to return a layout of {shape[1]} maps, not {layout!r}")
    return layout


def tile_codes(codes: Tensor, layout: TileLayout) -> Tensor:
    """Return ``(B, C, H, W)`` uint8 codes as pictures ``(B, N, H', 1 + W')`` on a background.

    Each line begins with a zero, as in a PNG file, where it says that the line is not filtered.
    """
    shown = codes if layout.maps >= codes.shape[1] else codes[:, : layout.maps]
    if missing := -layout.maps % layout.tiles:
        import torch

        shown = torch.nn.functional.pad(shown, (0, 0, 0, 0, 0, missing), value=BACKGROUND)
    kernels = compiled_kernels.kernels
    if kernels is None or codes.device.type != "cpu" or codes.element_size() != 1 or not shown.numel():
        return _tile_by_torch(shown, layout)
    canvas = codes.new_empty(canvas_shape(layout, shown.shape))
    kernels.tile_codes(shown.contiguous().numpy(), canvas.numpy(), kernel_grid(layout, shown.shape))
    return canvas


def untile_codes(lines: Tensor, layout: TileLayout, shape: Size) -> Tensor:
    """Return the codes ``(B, C, H, W)`` that `tile_codes` made `lines` of.

    The layout shows all maps, does not enlarge them, and is not uneven.
    """
    height, width = shape[2:]
    tile_height, tile_width = height + layout.gap, width + layout.gap
    rows = math.ceil(layout.tiles / layout.columns)
    # With a gap after the last row and column too, all cells are equal.
    filled = lines.new_empty((*lines.shape[:2], rows * tile_height, layout.columns * tile_width))
    filled[:, :, : lines.shape[2], : lines.shape[3] - 1] = lines[..., 1:]
    cells = filled.unflatten(3, (layout.columns, tile_width)).unflatten(2, (rows, tile_height))
    tiles: Tensor = cells[:, :, :, :height, :, :width].transpose(3, 4).flatten(2, 3)
    return tiles[:, :, : layout.tiles].flatten(1, 2)


def is_written_directly(layout: TileLayout, shape: Size) -> bool:
    """Whether codes of maps ``(B, C, H, W)`` are computed at their places in the pictures."""
    is_even = layout.maps % layout.tiles == 0
    return is_even and layout.factor == 1 and layout.maps == shape[1] and shape[3] >= MIN_DIRECT_WIDTH


def canvas_shape(layout: TileLayout, shape: Size) -> tuple[int, int, int, int]:
    """Return the shape of the pictures that `tile_codes` makes of maps ``(B, C, H, W)``, all of which are shown."""
    batch, count, height, width = shape
    rows = math.ceil(layout.tiles / layout.columns)
    tile_height, tile_width = height * layout.factor + layout.gap, width * layout.factor + layout.gap
    return batch, count // layout.tiles, rows * tile_height - layout.gap, 1 + layout.columns * tile_width - layout.gap


def kernel_grid(layout: TileLayout, shape: Size) -> Grid:
    """Return the places of maps ``(B, C, H, W)`` as the kernels take them."""
    return layout.tiles, shape[2], shape[3], layout.columns, layout.factor, layout.gap, 1, BACKGROUND


def _tile_by_torch(shown: Tensor, layout: TileLayout) -> Tensor:
    columns, factor, gap = layout.columns, layout.factor, layout.gap
    count, height, width = layout.tiles, *shown.shape[2:]
    pictures = shown.shape[1] // count
    codes = shown.reshape(len(shown) * pictures, count, height, width)
    rows, full_rows = math.ceil(count / columns), count // columns
    tile_height, tile_width = height * factor + gap, width * factor + gap
    lines = codes.new_empty((len(codes), rows * tile_height, 1 + columns * tile_width))
    lines[..., 0] = 0
    canvas = lines[..., 1:].unflatten(2, (columns, tile_width)).unflatten(1, (rows, tile_height))
    canvas[:, :, height * factor :] = BACKGROUND
    canvas[..., width * factor :] = BACKGROUND
    canvas[:, full_rows:, :, count - full_rows * columns :] = BACKGROUND
    if factor > 1:
        codes = codes.repeat_interleave(factor, 3)
    # A tile is cells[:, row, :, :, column], where the fourth axis repeats each line `factor` times.
    cells = canvas[:, :, : height * factor, :, : width * factor].unflatten(2, (height, factor))
    if full_rows:
        tiles = codes[:, : full_rows * columns].unflatten(1, (full_rows, columns)).transpose(2, 3)
        cells[:, :full_rows].copy_(tiles.unsqueeze(3).expand_as(cells[:, :full_rows]))
    if rest := count - full_rows * columns:
        last = cells[:, full_rows, :, :, :rest]
        last.copy_(codes[:, full_rows * columns :].transpose(1, 2).unsqueeze(2).expand_as(last))
    whole = lines.view(len(shown), pictures, *lines.shape[1:])
    return whole[:, :, : rows * tile_height - gap, : 1 + columns * tile_width - gap]
