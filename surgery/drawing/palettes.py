"""Palettes: the colors of all 256 codes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.drawing.colormap_catalog import COLORMAPS
from surgery.errors import RenderError, did_you_mean
from surgery.text import describe_stage
from surgery.types import BACKGROUND, INK, LEVELS, MINUS_INF, NAN, PLUS_INF

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surgery.stages import Colormap, Recipe

SPECIAL_CODES = {
    "NaN": (NAN, (255, 0, 200)),
    "-inf": (MINUS_INF, (0, 110, 255)),
    "+inf": (PLUS_INF, (0, 255, 255)),
    "background": (BACKGROUND, (32, 33, 38)),
}
"""Name of each code that is not a value -> the code and its color. The background takes another color where needed."""
BACKGROUNDS = ((32, 33, 38), (64, 36, 110), (0, 84, 92), (104, 58, 20), (238, 234, 222), (150, 196, 140))
"""Candidates for the background color, in order of preference."""
MIN_DIFFERENCE = 10.0
"""Smallest CIE 1976 color difference between the background and each color of a colormap."""


def recipe_palette(recipe: Recipe) -> NDArray[np.uint8]:
    """Return the palette of the recipe's colormap, else of the colormap that its normalizer names, else of viridis."""
    chosen = recipe.colormap if recipe.colormap is not None else getattr(recipe.normalizer, "colormap", "viridis")
    try:
        return _cached_palette(chosen)
    except TypeError:  # a list of colors can't be hashed
        return make_palette(chosen)


def make_palette(colormap: Colormap) -> NDArray[np.uint8]:
    """Return ``(256, 3)`` uint8: a colormap at 251 levels, and the colors of the special codes.

    Raises RenderError if no colormap has this name, or if a function raises or does not return colors.
    """
    levels = np.linspace(0.0, 1.0, LEVELS)
    try:
        sampled = np.asarray(colormap(levels) if callable(colormap) else _from_cmap(colormap)(levels), np.float64)
    except RenderError:
        raise
    except Exception as error:
        raise RenderError(
            f"colormap {describe_stage(colormap)} can't be sampled: {type(error).__name__}: {error}"
        ) from error
    if sampled.shape not in ((LEVELS, 3), (LEVELS, 4)) or not np.isfinite(sampled).all():
        raise RenderError(
            f"colormap {describe_stage(colormap)} has to return ({LEVELS}, 3) or ({LEVELS}, 4) finite, "
            f"not {sampled.shape}"
        )
    colors = np.zeros((256, 3), np.uint8)
    colors[:LEVELS] = np.rint(sampled[:, :3].clip(0, 1) * 255)
    for code, color in SPECIAL_CODES.values():
        colors[code] = color
    colors[BACKGROUND] = choose_background(colors[:LEVELS])
    return colors


def choose_background(colors: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return the first of `BACKGROUNDS` that differs from all colors ``(N, 3)`` by `MIN_DIFFERENCE` or more.

    If none does, return the one with the greatest distance.
    """
    candidates, lab = _to_lab(np.array(BACKGROUNDS)), _to_lab(colors)
    distances = [float(np.linalg.norm(candidate - lab, axis=1).min()) for candidate in candidates]
    distinct = (place for place, distance in enumerate(distances) if distance >= MIN_DIFFERENCE)
    return BACKGROUNDS[next(distinct, int(np.argmax(distances)))]


def add_ink_color(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the palette with a color for text that is readable on its background."""
    inked = colors.copy()
    inked[INK] = (20, 20, 22) if int(colors[BACKGROUND].sum()) > 380 else (235, 235, 230)
    return inked


def _to_lab(colors: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Return sRGB ``(N, 3)`` from 0 to 255 as CIE L*a*b* with the white point D65."""
    part = colors / 255.0
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    cube = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack((116 * cube[:, 1] - 16, 500 * (cube[:, 0] - cube[:, 1]), 200 * (cube[:, 1] - cube[:, 2])), 1)


_cached_palette = lru_cache(maxsize=64)(make_palette)


def _from_cmap(colormap: Any) -> Any:
    import cmap

    try:
        return cmap.Colormap(COLORMAPS.get(colormap, colormap) if isinstance(colormap, str) else colormap)
    except ValueError as error:
        if not isinstance(colormap, str):
            raise
        raise RenderError(f"no colormap is called {colormap!r}{did_you_mean(colormap, COLORMAPS)}") from error
