"""`draw`: pictures of a tensor, without a model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import BatchDrawing
from surgery.errors import RenderError
from surgery.extraction.named_stages import StageResolver
from surgery.layouts import LayoutRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.plugins import Plugins
    from surgery.stages import Colormap, Normalizer, Tiler, Transform
    from surgery.types import Picture, ValueLayout


def draw(
    values: Tensor,
    *,
    normalizer: Normalizer | str = DEFAULT_RECIPE.normalizer,
    tiler: Tiler | str = DEFAULT_RECIPE.tiler,
    colormap: Colormap = None,
    transforms: Transform | str | Sequence[Transform | str] = (),
    layout: ValueLayout | None = None,
    plugins: Plugins | None = None,
) -> tuple[Picture, ...]:
    """Return the pictures of a tensor whose first axis is the batch, one or several for each image.

    Stages are values, or names with options as on the command line: ``normalizer="percentile:low=2"``. `plugins` offer
    the names; by default they are the plugins that the command line finds.

    `layout` says how the values are read as maps, such as ``surgery.layouts.ChannelsLast()`` or ``Tokens(14, 14)``.
    Without it the number of axes decides: ``(B, C, H, W)`` are C maps, ``(B, T, D)`` one map, and ``(B, C)`` a vector.

    Raises RenderError for a value that can't be drawn, and PluginError for a name that no plugin offers.
    """
    if not isinstance(values, torch.Tensor) or values.is_meta or values.layout is not torch.strided:
        kind = f"a tensor on the device {values.device}" if isinstance(values, torch.Tensor) else type(values).__name__
        raise RenderError(f"draw takes a dense tensor with values, not {kind}")
    rules = () if layout is None else (LayoutRule(layout),)
    recipe = replace(StageResolver(plugins).recipe(normalizer, tiler, colormap, transforms), layouts=rules)
    drawing = BatchDrawing(values if values.ndim else values[None], recipe)
    return tuple(picture for position in range(drawing.batch) for picture in drawing.pictures(position))
