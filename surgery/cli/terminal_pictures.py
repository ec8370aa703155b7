"""Pictures in the terminal, two pixels in each character."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

SHADES = " ░▒▓█"
"""From dark to light, where there are no colors."""


class Blocks:
    """A picture in upper half blocks, as wide as there is room and at most so many lines high; shades without color."""

    def __init__(self, image: Image.Image, lines: int = 24) -> None:
        self.image = image.convert("RGB")
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pixels = self.pixels(options.max_width)
        for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
            for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
                if console.color_system is None or console.no_color:
                    light = np.dot(np.add(top, bottom) / 2, (0.299, 0.587, 0.114)) / 256
                    yield Segment(SHADES[int(light * len(SHADES))])
                else:
                    yield Segment("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
            yield Segment.line()

    def pixels(self, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """``(2 * lines, columns, 3)``: reduced by averaging, or enlarged by a whole factor."""
        factor = min(width / self.image.width, 2 * self.lines / self.image.height)
        factor = float(int(factor)) if factor >= 1 else factor
        columns, rows = (max(1, round(side * factor)) for side in self.image.size)
        how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
        return np.asarray(self.image.resize((columns, rows + rows % 2), how))
