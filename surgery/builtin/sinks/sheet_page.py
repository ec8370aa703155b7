"""One page of a sheet as an image: a header, and one row of thumbnails for each operation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.builtin.sinks.text_fitting import font, join_to_width, shorten_to_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from surgery.types import Facts

PAPER, INK, GRAY, RULE, WARNING = (250, 250, 248), (28, 30, 36), (120, 124, 134), (222, 222, 218), (190, 60, 20)
"""Colors."""
MARGIN, GUTTER, LABEL_WIDTH = 40, 10, 300
HEADER_HEIGHT, BLOCK_GAP, ROW_GAP = 150, 14, 34
MEASURED_HEIGHT = 144
"""The least height of a row that has room for what was measured."""
MIN_WIDTH = 1000
"""The width that the header needs. All sizes are in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    """An operation on a sheet."""

    path: str
    kind: str
    shape: str
    facts: Facts
    thumbnails: Sequence[tuple[int | None, Image.Image]]
    """Each with the number of its channel; None for a picture of the whole activation."""
    palette: NDArray[np.uint8] | None
    layout: str = ""
    """The layout of the values, if it is an unusual one."""
    measures: str = ""
    """What was measured of the values, in words."""

    @property
    def channels(self) -> list[int]:
        """The channels that were picked for the row."""
        return [channel for channel, _ in self.thumbnails if channel is not None]


@dataclass(frozen=True, slots=True, eq=False)
class SheetPage:
    """A page of a sheet."""

    rows: Sequence[SheetRow]
    title: list[str]
    """The model and the image."""
    details: list[str]
    """The number of rows, the mode, the choice of channels and the normalizer, in words."""
    columns: int
    """Thumbnails in a row."""
    size: int
    """Side of a thumbnail."""

    def draw(self) -> Image.Image:
        """Return the page as an RGB image."""
        from PIL import Image, ImageDraw

        rows = self.rows
        columns = max(self.columns, *(len(row.thumbnails) for row in rows), 1)
        width = max(2 * MARGIN + LABEL_WIDTH + columns * (self.size + GUTTER), MIN_WIDTH)
        blocks = sum(_block_name(a.path) != _block_name(b.path) for a, b in itertools.pairwise(rows))
        heights = [max([self.size, *(image.height for _, image in row.thumbnails)]) + ROW_GAP for row in rows]
        page = Image.new("RGB", (width, HEADER_HEIGHT + sum(heights) + blocks * BLOCK_GAP + MARGIN), PAPER)
        pen = ImageDraw.Draw(page)
        self._draw_header(page, pen)
        y = HEADER_HEIGHT
        for row, before, height in zip(rows, [None, *rows], heights, strict=False):
            if before is None or _block_name(before.path) != _block_name(row.path):
                y += BLOCK_GAP if before is not None else 0
                pen.line((MARGIN, y - 8, width - MARGIN, y - 8), fill=RULE, width=2)
            _draw_label(pen, row, y, height)
            self._draw_thumbnails(page, pen, row, y)
            y += height
        return page

    def _draw_thumbnails(self, page: Image.Image, pen: ImageDraw.ImageDraw, row: SheetRow, y: int) -> None:
        x = MARGIN + LABEL_WIDTH
        for channel, image in row.thumbnails:
            page.paste(image, (x, y))
            if channel is not None:
                pen.text((x, y + image.height + 3), str(channel), fill=GRAY, font=font(13))
            x += max(self.size, image.width) + GUTTER

    def _draw_header(self, page: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        width = page.width - 2 * MARGIN
        pen.text((MARGIN, 30), join_to_width(self.title, "  on  ", 30, width), fill=INK, font=font(30))
        pen.text((MARGIN, 74), join_to_width(self.details, "   ·   ", 16, width), fill=GRAY, font=font(16))
        palette = next((row.palette for row in self.rows if row.palette is not None), None)
        if palette is not None:
            self._draw_scale(page, pen, palette)

    def _draw_scale(self, page: Image.Image, pen: ImageDraw.ImageDraw, palette: NDArray[np.uint8]) -> None:
        """Draw the colors from low to high, and those of special codes if the page has NaN or infinite values."""
        from PIL import Image

        from surgery.drawing import SPECIAL_CODES
        from surgery.types import LEVELS

        bar = Image.fromarray(palette[None, :LEVELS].repeat(14, axis=0)).resize((LEVELS, 14))
        left = MARGIN + LABEL_WIDTH
        page.paste(bar, (left, 108))
        pen.text((left - 8, 115), "low", fill=GRAY, font=font(14), anchor="rm")
        pen.text((left + LEVELS + 8, 115), "high of its limits", fill=GRAY, font=font(14), anchor="lm")
        if any(row.facts.nan or row.facts.inf for row in self.rows):
            x = left + LEVELS + 170
            for name, (_, color) in list(SPECIAL_CODES.items())[:3]:
                pen.rectangle((x, 108, x + 14, 122), fill=color)
                pen.text((x + 20, 115), name, fill=GRAY, font=font(14), anchor="lm")
                x += 80


def _draw_label(pen: ImageDraw.ImageDraw, row: SheetRow, y: int, height: int) -> None:
    """Write the path, kind, shape, range, warnings and measures of a row at its left."""

    def write(text: str, below: int, size: int, color: tuple[int, int, int], stroke: float = 0) -> None:
        shown = shorten_to_width(text, size, LABEL_WIDTH - 20)
        pen.text((MARGIN, y + below), shown, fill=color, font=font(size), stroke_width=stroke)

    write(row.path, 0, 20, INK, 0.4)
    write(f"{row.kind}   {row.layout}" if row.layout else row.kind, 30, 15, GRAY)
    write(row.shape, 52, 15, INK)
    facts = row.facts
    if facts.min is not None and facts.max is not None:
        write(f"{facts.min:.3g} … {facts.max:.3g}", 74, 15, INK)
    warnings = [f"{facts.constant_channels} of {facts.channels} constant"] if facts.constant_channels else []
    warnings += ["NaN"] * facts.nan + ["infinite"] * facts.inf
    write(", ".join(warnings), 96, 15, WARNING)
    if height >= MEASURED_HEIGHT:
        write(row.measures, 118, 15, INK)


def fit_thumbnail(image: Image.Image, size: int, columns: int = 1, rows: int = 1) -> Image.Image:
    """Return an image that fits into the place of ``columns x rows`` thumbnails.

    It is enlarged by a whole factor without smoothing, or reduced by averaging areas.
    """
    from PIL import Image

    width, height = image.size
    room = size * columns + GUTTER * (columns - 1)
    factor = min(room / width, size * rows / height)
    if factor >= 1:
        return image.resize((width * int(factor), height * int(factor)), Image.Resampling.NEAREST)
    return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BOX)


def apply_palette(codes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """Return codes ``(H, W)`` as an RGB image in the colors of a palette ``(256, 3)``."""
    from PIL import Image

    image = Image.fromarray(codes)
    image.putpalette(palette.tobytes())
    return image.convert("RGB")  # a tenth of the time of indexing the palette with the codes


def _block_name(path: str) -> str:
    """Return the first part of a path, by which rows are grouped."""
    return path.partition(".")[0].partition("[")[0]
