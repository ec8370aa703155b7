"""The timeline of a comparison: a row for each operation, a column for each run, such as the epochs of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.builtin import (
    GRAY,
    INK,
    MARGIN,
    PAPER,
    apply_palette,
    fit_thumbnail,
    font,
    join_to_width,
    shorten_to_width,
)
from surgery.comparison.kept_maps import THUMBNAIL
from surgery.comparison.run_comparison import format_relative
from surgery.studies import MAP_COLORS, draw_output, find_limits, map_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageDraw
    from torch import Tensor

    from surgery.comparison.kept_maps import MeanMaps

MAX_ROWS = 60
_GAP, _NAME_WIDTH, _HEAD_HEIGHT, _TEXT_HEIGHT = 6, 200, 116, 20


def draw_timeline(
    title: list[str],
    details: list[str],
    names: Sequence[str],
    means: Sequence[MeanMaps],
    outputs: Sequence[Tensor | None],
    value_range: tuple[float, float] | None,
) -> Image.Image:
    """Return the page as an RGB image: the outputs of the runs, and below them the operations in order.

    Of more than `MAX_ROWS` operations, those that differ most are shown. `outputs` are ``(C, H, W)``.
    """
    from PIL import Image, ImageDraw

    rows = _choose(means)
    step = THUMBNAIL + _GAP
    width = max(2 * MARGIN + _NAME_WIDTH + len(names) * step, 900)
    page = Image.new("RGB", (width, _HEAD_HEIGHT + (len(rows) + 1) * (step + _TEXT_HEIGHT) + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    room = width - 2 * MARGIN
    pen.text((MARGIN, 22), join_to_width(title, "  on  ", 26, room), fill=INK, font=font(26))
    pen.text((MARGIN, 60), join_to_width(details, "   ·   ", 15, room), fill=GRAY, font=font(15))
    for place, name in enumerate(names):
        x = MARGIN + _NAME_WIDTH + place * step
        pen.text((x, _HEAD_HEIGHT - 26), shorten_to_width(name, 14, THUMBNAIL), fill=INK, font=font(14))
    _draw_row(page, pen, 0, "output", _draw_outputs(outputs, value_range), [None for _ in names])
    for number, row in enumerate(rows, 1):
        _draw_row(page, pen, number, row.operation.path, _draw_maps(row.maps), row.relative)
    return page


def _choose(means: Sequence[MeanMaps]) -> list[MeanMaps]:
    ranked = sorted(means, key=lambda row: -max((each for each in row.relative if each is not None), default=0.0))
    return sorted(ranked[:MAX_ROWS], key=lambda row: row.operation.index)


def _draw_outputs(
    outputs: Sequence[Tensor | None], value_range: tuple[float, float] | None
) -> list[Image.Image | None]:
    known = [each for each in outputs if each is not None]
    limits = None if value_range is not None or not known else find_limits(known[0].float().mean(0))
    return [None if each is None else draw_output(each, value_range, limits) for each in outputs]


def _draw_maps(maps: Sequence[Tensor | None]) -> list[Image.Image | None]:
    """Return the maps of an operation with one scale."""
    low, high = find_limits(torch.cat([each.flatten() for each in maps if each is not None]))
    drawn = [None if each is None else map_picture(each, MAP_COLORS, (low, high)) for each in maps]
    return [None if each is None else apply_palette(each.pixels, each.palette) for each in drawn]  # type: ignore[arg-type]


def _draw_row(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    number: int,
    name: str,
    pictures: Sequence[Image.Image | None],
    relative: Sequence[float | None],
) -> None:
    y = _HEAD_HEIGHT + number * (THUMBNAIL + _GAP + _TEXT_HEIGHT)
    pen.text((MARGIN, y + 4), shorten_to_width(name, 15, _NAME_WIDTH - 10), fill=INK, font=font(15))
    for place, (picture, amount) in enumerate(zip(pictures, relative, strict=True)):
        x = MARGIN + _NAME_WIDTH + place * (THUMBNAIL + _GAP)
        if picture is not None:
            page.paste(fit_thumbnail(picture, THUMBNAIL), (x, y))
        if place and amount is not None:
            text = "equal" if amount == 0 else format_relative(amount)
            pen.text((x, y + THUMBNAIL + 3), text, fill=GRAY, font=font(13))
