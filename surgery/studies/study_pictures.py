"""Outputs, differences and maps of a study as images."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.builtin import apply_palette
from surgery.drawing import make_palette
from surgery.types import BACKGROUND, LEVELS, MINUS_INF, NAN, PLUS_INF, Picture

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

DIFFERENCE_COLORS, MAP_COLORS = "inferno", "viridis"
_OUTLINE = (0, 220, 255)


def draw_output(
    output: Tensor, value_range: tuple[float, float] | None, limits: tuple[float, float] | None = None
) -> Image.Image:
    """Return an output ``(C, H, W)`` as an RGB image: in its own colors, or the mean of its channels in viridis.

    `value_range` is black and white of an image, and `limits` are the ends of the colors of another output, by default
    its own extremes.
    """
    from PIL import Image

    if value_range is None or output.shape[0] not in (1, 3):
        return draw_map(output.float().mean(0), MAP_COLORS, limits)
    low, high = value_range
    colors = (output.float() - low) * (255 / (high - low))
    pixels = colors.nan_to_num(0, 255, 0).round().clamp(0, 255).byte().expand(3, *output.shape[1:])
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()))


def draw_map(values: Tensor, colors: str, limits: tuple[float, float] | None = None) -> Image.Image:
    """Return a map ``(H, W)`` as an RGB image in the colors of a colormap, between limits or its own extremes."""
    return apply_palette(_map_codes(values, *(limits or find_limits(values))), _palette(colors))


def map_picture(values: Tensor, colors: str, limits: tuple[float, float]) -> Picture:
    """Return a map ``(H, W)`` as an indexed picture, whose codes are values between limits."""
    low, high = np.array(limits, np.float64)[:, None]
    return Picture(_map_codes(values, *limits), _palette(colors), low, high)


def _map_codes(values: Tensor, low: float, high: float) -> NDArray[np.uint8]:
    given: NDArray[Any] = values.float().numpy()
    is_finite = np.isfinite(given)
    scale = (LEVELS - 1) / (high - low) if high > low else 0.0
    codes = np.where(is_finite, (np.where(is_finite, given, low) - low) * scale if scale else (LEVELS - 1) / 2, 0)
    codes = codes.round().clip(0, LEVELS - 1).astype(np.uint8)
    codes[np.isnan(given)], codes[np.isposinf(given)], codes[np.isneginf(given)] = NAN, PLUS_INF, MINUS_INF
    return codes


def find_limits(values: Tensor) -> tuple[float, float]:
    """Return the least and the greatest finite value of a tensor; zeros if there is none."""
    finite = values[values.isfinite()].float()
    return (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 0.0)


def output_limits(output: Tensor, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the ends of the colors for outputs ``(C, H, W)`` that are compared with `output`; None for images."""
    return None if value_range is not None else find_limits(output.float().mean(0))


def draw_outline(picture: Image.Image, mask: Tensor) -> Image.Image:
    """Return an image with the border of a region, bool ``(H, W)`` of its size, drawn on it."""
    from PIL import Image

    region: NDArray[np.bool_] = mask.numpy()
    padded = np.pad(region, 1, constant_values=False)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    pixels = np.array(picture)
    pixels[region & ~inner] = _OUTLINE
    return Image.fromarray(pixels)


def color_bar(colors: str) -> Image.Image:
    """Return all colors of a colormap from low to high, as an image of one row."""
    return apply_palette(np.arange(LEVELS, dtype=np.uint8)[None], _palette(colors))


@cache
def _palette(colors: str) -> NDArray[np.uint8]:
    palette = make_palette(colors)
    palette[BACKGROUND] = 0
    return palette
