"""The sheet of maximized channels: a tile for each, with its number, and the means that were reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surgery.builtin import SheetPage, SheetRow, Thumbnails, fit_thumbnail
from surgery.types import Facts, Picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.types import Operation

COLUMNS = 4
"""Tiles in a row."""
TILE = 224
"""The side of a tile in pixels."""


def draw_sheet(
    title: str,
    details: Sequence[str],
    operation: Operation,
    channels: Sequence[int],
    means: Sequence[float],
    pictures: Sequence[Picture],
) -> Picture:
    """Return a page in RGB with the picture of each channel and the least and greatest mean of each row."""
    images = [picture.image().convert("RGB") for picture in pictures]
    rows = []
    for start in range(0, len(images), COLUMNS):
        part = range(start, min(start + COLUMNS, len(images)))
        reached = [means[position] for position in part]
        rows.append(
            SheetRow(
                path=operation.path,
                kind=operation.kind,
                shape="means of the channels:",
                facts=Facts(min(reached), max(reached), len(part), 0, nan=False, inf=False),
                thumbnails=Thumbnails.of_images([fit_thumbnail(images[position], TILE) for position in part]),
                channels=[channels[position] for position in part],
                palette=None,
            )
        )
    page = SheetPage(rows=rows, title=[title], details=list(details), columns=COLUMNS, size=TILE).draw().image()
    return Picture(np.asarray(page), None, np.zeros(1), np.ones(1))
