"""The page of a study as an image: the original, and a cell for each variant with its pictures and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.builtin import (
    GRAY,
    INK,
    MARGIN,
    PAPER,
    RULE,
    WARNING,
    fit_thumbnail,
    font,
    join_to_width,
    shorten_to_width,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageDraw

SIDE = 192
"""The side of a picture in pixels."""
_GAP, _CELL_GAP, _BAR_HEIGHT = 6, 30, 5
_TITLE_HEIGHT, _CAPTION_HEIGHT, _CELL_TEXT_HEIGHT = 112, 26, 66
_WIDTH = 1240
"""The width that cells share. All sizes are in pixels."""
_BAR = (58, 104, 168)


@dataclass(frozen=True, slots=True, eq=False)
class StudyCell:
    """One variant on a page."""

    title: str
    number: str
    """What it is ranked by, as text."""
    share: float | None
    """The length of its bar, from 0 to 1; None for a number that is not finite."""
    details: str
    """Its other numbers, as text."""
    pictures: Sequence[Image.Image]


@dataclass(frozen=True, slots=True, eq=False)
class StudyPage:
    """A page of a study."""

    title: list[str]
    details: list[str]
    heading: Sequence[tuple[str, Image.Image]]
    """The pictures at the top, such as input and output, with their captions."""
    legend: Sequence[str]
    """What the pictures of a cell are, in order, and other lines beside the heading."""
    scale: tuple[Image.Image, str, str] | None
    """The colors of differences, ``(1, N)``, and the values of the first and the last."""
    cells: Sequence[StudyCell]

    def draw(self) -> Image.Image:
        """Return the page as an RGB image."""
        from PIL import Image, ImageDraw

        pictures = max((len(cell.pictures) for cell in self.cells), default=2)
        cell_width = pictures * SIDE + (pictures - 1) * _GAP
        columns = max(1, (_WIDTH + _CELL_GAP) // (cell_width + _CELL_GAP))
        rows = -(-len(self.cells) // columns)
        top = _TITLE_HEIGHT + SIDE + _CAPTION_HEIGHT + _CELL_GAP
        row_height = SIDE + _CELL_TEXT_HEIGHT + 18
        width = 2 * MARGIN + columns * (cell_width + _CELL_GAP) - _CELL_GAP
        page = Image.new("RGB", (width, top + rows * row_height + MARGIN // 2), PAPER)
        pen = ImageDraw.Draw(page)
        self._draw_heading(page, pen)
        pen.line((MARGIN, top - 16, width - MARGIN, top - 16), fill=RULE, width=2)
        for place, cell in enumerate(self.cells):
            row, column = divmod(place, columns)
            x = MARGIN + column * (cell_width + _CELL_GAP)
            _draw_cell(page, pen, cell, x, top + row * row_height, cell_width)
        return page

    def _draw_heading(self, page: Image.Image, pen: ImageDraw.ImageDraw) -> None:
        width = page.width - 2 * MARGIN
        pen.text((MARGIN, 26), join_to_width(self.title, "  on  ", 30, width), fill=INK, font=font(30))
        pen.text((MARGIN, 70), join_to_width(self.details, "   ·   ", 16, width), fill=GRAY, font=font(16))
        x = MARGIN
        for caption, picture in self.heading:
            _paste(page, picture, x, _TITLE_HEIGHT)
            text = shorten_to_width(caption, 14, SIDE)
            pen.text((x, _TITLE_HEIGHT + SIDE + 6), text, fill=GRAY, font=font(14))
            x += SIDE + _GAP
        x += _CELL_GAP - _GAP
        room = page.width - MARGIN - x
        y = _TITLE_HEIGHT + 2
        for line in self.legend:
            pen.text((x, y), shorten_to_width(line, 15, room), fill=INK, font=font(15))
            y += 25
        if self.scale is not None:
            colors, low, high = self.scale
            bar = colors.resize((min(251, room - 70), 12))
            page.paste(bar, (x, y + 8))
            pen.text((x, y + 24), low, fill=GRAY, font=font(14))
            pen.text((x + bar.width, y + 24), high, fill=GRAY, font=font(14), anchor="ra")


def _draw_cell(page: Image.Image, pen: ImageDraw.ImageDraw, cell: StudyCell, x: int, y: int, width: int) -> None:
    """Draw the pictures of a variant side by side, and below them its name, its number, a bar, and other numbers."""
    for place, picture in enumerate(cell.pictures):
        _paste(page, picture, x + place * (SIDE + _GAP), y)
    y += SIDE + 8
    number = font(17).getlength(cell.number)
    title = shorten_to_width(cell.title, 17, width - number - 16)
    pen.text((x, y), title, fill=INK, font=font(17), stroke_width=0.3)
    pen.text((x + width, y), cell.number, fill=WARNING if cell.share is None else INK, font=font(17), anchor="ra")
    y += 26
    pen.rectangle((x, y, x + width - 1, y + _BAR_HEIGHT - 1), fill=RULE)
    if cell.share is not None and (filled := round(cell.share * width)) > 0:
        pen.rectangle((x, y, x + filled - 1, y + _BAR_HEIGHT - 1), fill=_BAR)
    pen.text((x, y + 11), shorten_to_width(cell.details, 14, width), fill=GRAY, font=font(14))


def _paste(page: Image.Image, picture: Image.Image, x: int, y: int) -> None:
    """Paste a picture into a square of `SIDE` pixels, in its middle."""
    fitted = fit_thumbnail(picture, SIDE)
    page.paste(fitted, (x + (SIDE - fitted.width) // 2, y + (SIDE - fitted.height) // 2))
