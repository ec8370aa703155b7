"""Pictures in the terminal: each character shows two pixels, one above the other."""

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
"""Characters from dark to light for terminals without colors."""


class TerminalPicture:
    """A picture in half blocks, or in shades where there are no colors.

    It is as wide as the console allows, and at most `lines` lines high.
    """

    def __init__(self, image: Image.Image, lines: int = 24) -> None:
        self.image = image.convert("RGB")
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pixels = self.pixels(options.max_width)
        for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
            for top, bottom in zip(upper.tolist(), lower.tolist(), strict=True):
                if console.color_system is None or console.no_color:
                    luminance = np.dot(np.add(top, bottom) / 2, (0.299, 0.587, 0.114)) / 256
                    yield Segment(SHADES[int(luminance * len(SHADES))])
                else:
                    yield Segment("▀", Style(color=Color.from_rgb(*top), bgcolor=Color.from_rgb(*bottom)))
            yield Segment.line()

    def pixels(self, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Return ``(2 * lines, columns, 3)`` uint8: the image reduced by averaging, or enlarged by a whole factor."""
        factor = min(width / self.image.width, 2 * self.lines / self.image.height)
        factor = float(int(factor)) if factor >= 1 else factor
        columns, rows = (max(1, round(side * factor)) for side in self.image.size)
        method = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
        return np.asarray(self.image.resize((columns, rows + rows % 2), method))
