"""Codes to colors, for pictures that no palette is large enough for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surgery.drawing import compiled_kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINES_AT_ONCE = 64


def color_lines(lines: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the RGB lines ``(H, 1 + 3 * W)`` of codes ``(H, 1 + W)`` into a palette ``(256, 3)``.

    The first byte of each line is that of its filter, as in a PNG file, and is copied.
    """
    height, width = len(lines), lines.shape[1] - 1
    colored = np.empty((height, 1 + 3 * width), np.uint8)
    if compiled_kernels.kernels is not None and lines.size:
        compiled_kernels.kernels.color_lines(np.ascontiguousarray(lines), np.ascontiguousarray(palette), colored)
        return colored
    colored[:, 0] = lines[:, 0]
    for top in range(0, height, _LINES_AT_ONCE):
        block = slice(top, top + _LINES_AT_ONCE)
        colored[block, 1:] = palette[lines[block, 1:]].reshape(len(lines[block]), 3 * width)
    return colored
