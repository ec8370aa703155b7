"""The sheet of maximized channels: a tile for each, with its number and the means before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surgery.builtin import SheetPage, SheetRow, fit_thumbnail
from surgery.text import format_count
from surgery.types import Facts, Picture

if TYPE_CHECKING:
    from surgery.synthesis.results import Maximized

COLUMNS = 4
"""Tiles in a row."""
TILE = 224
"""The side of a tile in pixels."""


def draw_sheet(maximized: Maximized) -> Picture:
    """Return a page with the picture of each channel, in RGB."""
    pictures = [picture.image().convert("RGB") for picture in maximized.pictures]
    rows = []
    for start in range(0, len(pictures), COLUMNS):
        part = range(start, min(start + COLUMNS, len(pictures)))
        after = [maximized.after[position] for position in part]
        rows.append(
            SheetRow(
                path=maximized.operation.path,
                kind=maximized.operation.kind,
                shape="means of the channels:",
                facts=Facts(min(after), max(after), len(part), 0, nan=False, inf=False),
                thumbnails=[
                    (maximized.channels[position], fit_thumbnail(pictures[position], TILE)) for position in part
                ],
                palette=None,
            )
        )
    settings = maximized.settings
    details = [
        format_count(settings.steps, "step"),
        f"seed {settings.seed}",
        f"rate {settings.rate:g}",
        f"jitter {settings.jitter}",
        f"variation {settings.variation:g}",
        "frequencies" if settings.frequencies else "pixels",
        *([f"region {','.join(f'{share:g}' for share in settings.region)}"] if settings.region is not None else []),
    ]
    title = ["inputs that maximize channels", f"{maximized.operation.path} of {type(maximized.model).__name__}"]
    page = SheetPage(rows=rows, title=title, details=details, columns=COLUMNS, size=TILE).draw()
    return Picture(np.asarray(page), None, np.zeros(1), np.ones(1))
