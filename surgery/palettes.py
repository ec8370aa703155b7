"""From colormaps to palettes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.builtin.colormaps import COLORMAPS
from surgery.errors import RenderError, did_you_mean
from surgery.types import BACKGROUND, LEVELS, MINUS_INF, NAN, PLUS_INF, describe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surgery.types import Colormap, Recipe

NOT_VALUES = {
    "NaN": (NAN, (255, 0, 200)),
    "-inf": (MINUS_INF, (0, 110, 255)),
    "+inf": (PLUS_INF, (0, 255, 255)),
    "background": (BACKGROUND, (32, 33, 38)),
}
"""The codes that stand for no value, and their colors."""


def palette_of(recipe: Recipe) -> NDArray[np.uint8]:
    """The palette of a recipe: its colormap's, or the one that its normalizer names, or viridis."""
    chosen = recipe.colormap if recipe.colormap is not None else getattr(recipe.normalizer, "colormap", "viridis")
    try:
        return _cached_palette(chosen)
    except TypeError:  # a list of colors has no hash
        return palette(chosen)


def palette(colormap: Colormap) -> NDArray[np.uint8]:
    """``(256, 3)`` uint8: a colormap at the 251 levels, and the colors of what is no value.

    Raises RenderError for a name that no colormap has, and for a function that gives no colors.
    """
    levels = np.linspace(0.0, 1.0, LEVELS)
    try:
        sampled = np.asarray(colormap(levels) if callable(colormap) else _known(colormap)(levels), np.float64)
    except RenderError:
        raise
    except Exception as error:
        raise RenderError(f"colormap {describe(colormap)} can't be sampled: {type(error).__name__}: {error}") from error
    if sampled.shape not in ((LEVELS, 3), (LEVELS, 4)) or not np.isfinite(sampled).all():
        raise RenderError(
            f"colormap {describe(colormap)} has to give ({LEVELS}, 3) or ({LEVELS}, 4) finite, not {sampled.shape}"
        )
    colors = np.zeros((256, 3), np.uint8)
    colors[:LEVELS] = np.rint(sampled[:, :3].clip(0, 1) * 255)
    for code, color in NOT_VALUES.values():
        colors[code] = color
    return colors


_cached_palette = lru_cache(maxsize=64)(palette)


def _known(colormap: Any) -> Any:
    import cmap

    try:
        return cmap.Colormap(COLORMAPS.get(colormap, colormap) if isinstance(colormap, str) else colormap)
    except ValueError as error:
        if not isinstance(colormap, str):
            raise
        raise RenderError(f"no colormap is called {colormap!r}{did_you_mean(colormap, COLORMAPS)}") from error
