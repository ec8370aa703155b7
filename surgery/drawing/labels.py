"""Channel numbers above the maps of a picture, and a scale bar below them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.drawing.picture_sizes import LABEL_HEIGHT
from surgery.drawing.tiling import tile_codes
from surgery.stages import TileLayout
from surgery.types import BACKGROUND, INK, LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BAR_HEIGHT = 8
"""Pixels of the scale bar."""
_MARGIN = 4
"""Pixels above the scale bar."""
_FONT_SIZE = 11
_MIN_WIDTH = 100
"""Pixels of a picture's width, at least: room for the numbers at both ends of the scale bar."""


def draw_labels(
    codes: Tensor, layout: TileLayout, low: NDArray[np.float64] | None = None, high: NDArray[np.float64] | None = None
) -> Tensor:
    """Return ``(B, C, H, W)`` codes as pictures ``(B, N, H', W')`` with channel numbers and a scale bar.

    `low` and `high` are the limits ``(C,)``. They are written at the ends of the bar if all channels share them; else
    the words "low" and "high" are.
    """
    import torch

    factor, shown = layout.factor, layout.maps
    maps = codes[:, :shown].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    labels = torch.stack([torch.from_numpy(_draw_text(str(number), maps.shape[3])) for number in range(shown)])
    cells = torch.cat((labels.expand(len(maps), -1, -1, -1), maps), 2)
    tiles = tile_codes(cells, TileLayout(shown, layout.tiles, layout.columns, 1, layout.gap, layout.uneven))[..., 1:]
    pictures = torch.nn.functional.pad(tiles, (0, max(0, _MIN_WIDTH - tiles.shape[3])), value=BACKGROUND)
    ends = ("low", "high")
    if low is not None and high is not None and np.ptp(low) == 0 and np.ptp(high) == 0:
        ends = (f"{low[0]:.3g}", f"{high[0]:.3g}")
    bar = torch.from_numpy(_draw_scale_bar(pictures.shape[3], *ends)).expand(*pictures.shape[:2], -1, -1)
    return torch.cat((pictures, bar), 2)


@lru_cache(maxsize=4096)
def _draw_text(text: str, width: int) -> NDArray[np.uint8]:
    """Return a text as codes ``(LABEL_HEIGHT, width)``, on the left, cut off at the width."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (width, LABEL_HEIGHT), 0)
    pen: Any = ImageDraw.Draw(image)
    pen.fontmode = "1"
    pen.text((1, LABEL_HEIGHT - 2), text, fill=255, font=ImageFont.load_default(_FONT_SIZE), anchor="ls")
    return np.where(np.asarray(image) > 0, INK, BACKGROUND).astype(np.uint8)


@lru_cache(maxsize=256)
def _draw_scale_bar(width: int, low: str, high: str) -> NDArray[np.uint8]:
    """Return a scale bar as codes: all levels from left to right, and below it a text at each end."""
    length = min(width, LEVELS)
    bottom = _MARGIN + BAR_HEIGHT
    bar = np.full((bottom + LABEL_HEIGHT, width), BACKGROUND, np.uint8)
    bar[_MARGIN:bottom, :length] = np.linspace(0, LEVELS - 1, length).round().astype(np.uint8)
    left, right = _draw_text(low, length), _draw_text(high, length)
    inked = np.flatnonzero((right == INK).any(0))
    shift = length - 1 - int(inked.max()) if len(inked) else 0
    bar[bottom:, :length] = left
    if shift > np.flatnonzero((left == INK).any(0)).max(initial=0) + 3:  # else there is no room for both
        bar[bottom:, shift:length] = right[:, : length - shift]
    return bar
