"""Embers: a colormap from the black of coal through red and orange to the white of a flame.

Lightness rises by the same step from level to level, so equal differences look equal, and the order is kept in gray.
The hue goes from violet (315 degrees) to yellow (460 degrees). The chroma is close to the most that sRGB can show.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import surgery

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from surgery.stages import Colormap

DARK, LIGHT = 2.0, 97.0
"""CIE L* of the first level and of the last."""
CHROMA = (11.0, 37.0, 44.0, 54.0, 67.0, 87.0, 89.0, 77.0, 64.0, 49.0, 18.0)
"""CIE C* of eleven levels, evenly spaced."""


@surgery.hookimpl
def surgery_colormaps() -> Mapping[str, Colormap]:
    return {"embers": embers, "embers_r": embers_reversed}


def embers(levels: NDArray[np.float64], /) -> NDArray[np.float64]:
    """Return the colors ``(N, 3)`` sRGB in [0, 1] of levels ``(N,)`` in [0, 1]."""
    import numpy as np

    chroma = interpolate(CHROMA, levels)
    hue = np.radians(315 + 145 * levels**0.9)
    return lab_to_srgb(DARK + (LIGHT - DARK) * levels, chroma * np.cos(hue), chroma * np.sin(hue))


def embers_reversed(levels: NDArray[np.float64], /) -> NDArray[np.float64]:
    """Return the colors in reverse, from light to dark, for print on white paper."""
    return embers(1 - levels)


def interpolate(anchors: tuple[float, ...], levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values at `levels` of a smooth curve through evenly spaced anchors (Catmull and Rom 1974)."""
    import numpy as np

    values, slopes = np.array(anchors), np.gradient(np.array(anchors))
    position = levels * (len(anchors) - 1)
    left = np.minimum(position.astype(int), len(anchors) - 2)
    part = position - left
    rise = values[left + 1] - values[left]
    bend = (1 - part) * (slopes[left] - rise) - part * (slopes[left + 1] - rise)
    curve: NDArray[np.float64] = values[left] + part * rise + part * (1 - part) * bend
    return curve


def lab_to_srgb(lightness: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert CIELAB under D65 (CIE 15:2018) to sRGB (IEC 61966-2-1), clipped to [0, 1]."""
    import numpy as np

    middle = (lightness + 16) / 116
    folded = np.stack([middle + a / 500, middle, middle - b / 200], axis=-1)
    xyz = np.where(folded > 6 / 29, folded**3, 3 * (6 / 29) ** 2 * (folded - 4 / 29)) * (0.95047, 1.0, 1.08883)
    to_rgb = np.array(
        [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
    )
    linear = np.clip(xyz @ to_rgb.T, 0, 1)
    colors: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return colors
