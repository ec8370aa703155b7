"""Numbers of channels and a scale bar, written into the pictures of a grid."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.drawing.tiling import tile_codes
from surgery.stages import TileLayout
from surgery.types import BACKGROUND, INK, LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

STRIP = 13
"""Lines above a map, for its number."""
BAR = 8
"""Lines of a scale bar."""
_SIZE, _WIDE = 11, 100
"""Of letters, and the width that both ends of a scale bar need."""


def draw_labels(
    levels: Tensor, layout: TileLayout, low: NDArray[np.float64] | None = None, high: NDArray[np.float64] | None = None
) -> Tensor:
    """``(B, C, H, W)`` codes -> ``(B, N, H', W')``, laid as `layout` says, with numbers above maps and a scale bar.

    The bar's ends are the limits ``(C,)`` where they are those of all channels, and else ``low`` and ``high``.
    """
    import torch

    factor, shown = layout.factor, layout.maps
    maps = levels[:, :shown].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    strips = torch.stack([torch.from_numpy(_text(str(number), maps.shape[3])) for number in range(shown)])
    cells = torch.cat((strips.expand(len(maps), -1, -1, -1), maps), 2)
    laid = tile_codes(cells, TileLayout(shown, layout.tiles, layout.columns, 1, layout.gap, layout.uneven))[..., 1:]
    laid = torch.nn.functional.pad(laid, (0, max(0, _WIDE - laid.shape[3])), value=BACKGROUND)
    ends = ("low", "high")
    if low is not None and high is not None and np.ptp(low) == 0 and np.ptp(high) == 0:
        ends = (f"{low[0]:.3g}", f"{high[0]:.3g}")
    bar = torch.from_numpy(_bar(laid.shape[3], *ends)).expand(*laid.shape[:2], -1, -1)
    return torch.cat((laid, bar), 2)


@lru_cache(maxsize=4096)
def _text(text: str, width: int) -> NDArray[np.uint8]:
    """``(STRIP, width)`` codes: a text at the left, cut where it is too wide."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (width, STRIP), 0)
    pen: Any = ImageDraw.Draw(image)
    pen.fontmode = "1"
    pen.text((1, STRIP - 2), text, fill=255, font=ImageFont.load_default(_SIZE), anchor="ls")
    return np.where(np.asarray(image) > 0, INK, BACKGROUND).astype(np.uint8)


@lru_cache(maxsize=256)
def _bar(width: int, low: str, high: str) -> NDArray[np.uint8]:
    """``(BAR + STRIP + 4, width)`` codes: all levels from low to high, and what stands at the ends."""
    long = min(width, LEVELS)
    found = np.full((BAR + STRIP + 4, width), BACKGROUND, np.uint8)
    found[4 : 4 + BAR, :long] = np.linspace(0, LEVELS - 1, long).round().astype(np.uint8)
    left, right = _text(low, long), _text(high, long)
    used = np.flatnonzero((right == INK).any(0))
    shift = long - 1 - int(used.max()) if len(used) else 0
    found[4 + BAR :, :long] = left
    if shift > np.flatnonzero((left == INK).any(0)).max(initial=0) + 3:  # there is room for both
        found[4 + BAR :, shift:long] = right[:, : long - shift]
    return found
