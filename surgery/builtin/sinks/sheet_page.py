"""One page of a sheet: a header, and one row of thumbnails for each operation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgery.builtin.sinks.page_canvas import PageCanvas
from surgery.builtin.sinks.page_colors import GRAY, INK, WARNING
from surgery.builtin.sinks.text_fitting import join_to_width, shorten_to_width
from surgery.builtin.sinks.thumbnails import GUTTER, Thumbnails

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surgery.builtin.sinks.page_colors import Color
    from surgery.types import Facts

MARGIN, LABEL_WIDTH = 40, 300
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
    thumbnails: Thumbnails | None
    """None for an activation without values."""
    channels: Sequence[int]
    """The number of the channel of each thumbnail; empty for a picture of the whole activation."""
    palette: NDArray[np.uint8] | None
    """That of the thumbnails; None if they are RGB."""
    layout: str = ""
    """The layout of the values, if it is an unusual one."""
    measures: str = ""
    """What was measured of the values, in words."""

    @property
    def count(self) -> int:
        """The number of thumbnails."""
        return 0 if self.thumbnails is None else len(self.thumbnails.pixels)

    def height(self, size: int) -> int:
        """Return the height in pixels, for thumbnails in places of this size."""
        return max(size, 0 if self.thumbnails is None else self.thumbnails.height) + ROW_GAP


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

    def draw(self) -> PageCanvas:
        """Return the page, drawn."""
        rows = self.rows
        columns = max(self.columns, *(row.count for row in rows), 1)
        width = max(2 * MARGIN + LABEL_WIDTH + columns * (self.size + GUTTER), MIN_WIDTH)
        blocks = sum(_block_name(a.path) != _block_name(b.path) for a, b in itertools.pairwise(rows))
        height = HEADER_HEIGHT + sum(row.height(self.size) for row in rows) + blocks * BLOCK_GAP + MARGIN
        palettes = {row.palette.tobytes(): row.palette for row in rows if row.palette is not None}
        images = [
            each for row in rows if row.thumbnails is not None and row.palette is None for each in row.thumbnails.pixels
        ]
        page = PageCanvas(width, height, list(palettes.values()), images)
        self._draw_header(page)
        y = HEADER_HEIGHT
        for row, before in zip(rows, [None, *rows], strict=False):
            if before is None or _block_name(before.path) != _block_name(row.path):
                y += BLOCK_GAP if before is not None else 0
                page.rule(MARGIN, y - 8, width - MARGIN, 2)
            _draw_label(page, row, y, row.height(self.size))
            self._draw_thumbnails(page, row, y)
            y += row.height(self.size)
        return page

    def _draw_thumbnails(self, page: PageCanvas, row: SheetRow, y: int) -> None:
        if row.thumbnails is None:
            return
        x, step = MARGIN + LABEL_WIDTH, max(self.size, row.thumbnails.width) + GUTTER
        page.draw(row.thumbnails, row.palette, x, y, step)
        page.write_row([str(channel) for channel in row.channels], x, y + row.thumbnails.height + 3, step, 13, GRAY)

    def _draw_header(self, page: PageCanvas) -> None:
        width = page.width - 2 * MARGIN
        page.write(join_to_width(self.title, "  on  ", 30, width), MARGIN, 30, 30, INK)
        page.write(join_to_width(self.details, "   ·   ", 16, width), MARGIN, 74, 16, GRAY)
        palette = next((row.palette for row in self.rows if row.palette is not None), None)
        if palette is not None:
            self._draw_scale(page, palette)

    def _draw_scale(self, page: PageCanvas, palette: NDArray[np.uint8]) -> None:
        """Draw the colors from low to high, and those of special codes if the page has NaN or infinite values."""
        from surgery.drawing import SPECIAL_CODES
        from surgery.types import LEVELS

        left = MARGIN + LABEL_WIDTH
        bar = np.arange(LEVELS, dtype=np.uint8)[None].repeat(14, axis=0)
        page.draw(Thumbnails(bar[None]), palette, left, 108, LEVELS)
        page.write("low", left - 8, 115, 14, GRAY, anchor="rm")
        page.write("high of its limits", left + LEVELS + 8, 115, 14, GRAY, anchor="lm")
        if any(row.facts.nan or row.facts.inf for row in self.rows):
            x = left + LEVELS + 170
            for name, (code, _) in list(SPECIAL_CODES.items())[:3]:
                page.draw(Thumbnails(np.full((1, 15, 15), code, np.uint8)), palette, x, 108, 15)
                page.write(name, x + 20, 115, 14, GRAY, anchor="lm")
                x += 80


def _draw_label(page: PageCanvas, row: SheetRow, y: int, height: int) -> None:
    """Write the path, kind, shape, range, warnings and measures of a row at its left."""

    def write(text: str, below: int, size: int, color: Color, stroke: float = 0) -> None:
        page.write(shorten_to_width(text, size, LABEL_WIDTH - 20), MARGIN, y + below, size, color, stroke=stroke)

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


def _block_name(path: str) -> str:
    """Return the first part of a path, by which rows are grouped."""
    return path.partition(".")[0].partition("[")[0]
