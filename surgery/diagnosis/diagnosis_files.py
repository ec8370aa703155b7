"""The pictures of a diagnosis: plots over depth, and a sheet of the worst channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surgery.builtin import GRAY, INK, MARGIN, PAPER, RULE, WARNING, fit_thumbnail, font, shorten_to_width
from surgery.diagnosis.depth_plots import plot_over_depth
from surgery.diagnosis.plot_shapes import to_image, to_svg
from surgery.drawing import encode_png
from surgery.studies import draw_map
from surgery.text import sanitize_path_part
from surgery.types import Picture

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from PIL import Image
    from torch import Tensor

    from surgery.diagnosis.measured_runs import MeasuredRuns
    from surgery.diagnosis.result import Diagnosis, DiagnosisRow
    from surgery.studies import StudyFolder, StudyImage

_COLUMNS, _SIDE, _GAP = 8, 144, 10
_ROW_HEIGHT, _TITLE_HEIGHT = _SIDE + 74, 116
_MAX_ROWS = 24
_COLORS = "viridis"


def write_pictures(folder: StudyFolder, result: Diagnosis, runs: MeasuredRuns, image: StudyImage) -> Path:
    """Write plots of each measure as SVG and PNG, and a sheet of the worst channels on an image; return the sheet."""
    for measure, reading in result.readings.items():
        rows = [row for row in result.rows if row.measure == measure]
        if not rows:
            continue
        past = {finding.operation.path for finding in result.findings if finding.measure == measure}
        title = f"{measure} in {result.model}"
        shapes, width, height = plot_over_depth(title, reading, rows, result.thresholds.get(measure), past)
        name = f"plots/{sanitize_path_part(measure)}"
        folder.write(f"{name}.svg", to_svg(shapes, width, height, title))
        folder.write(f"{name}.png", _png(to_image(shapes, width, height)))
    shown = _find_shown(result)
    maps = runs.keep_maps(image, frozenset(row.operation.path for row, _, _ in shown))
    return folder.write("worst-channels.png", _png(_draw_sheet(result, image.name, shown, maps)))


def _find_shown(result: Diagnosis) -> list[tuple[DiagnosisRow, str, bool]]:
    """Return the rows of the findings with their texts; without findings, the largest row of each measure."""
    roots = [finding for finding in result.findings if finding.follows is None]
    found = [(result.row(each.operation.path, each.measure), each.text) for each in roots]
    shown = [(row, text, True) for row, text in found if row is not None]
    if not shown:
        for measure in result.thresholds:
            rows = [row for row in result.rows if row.measure == measure and row.operation.kind != "input"]
            if rows:
                row = max(rows, key=lambda row: abs(row.number))
                text = f"no finding: {measure} is {row.number:.2g} at most, in {row.operation.path}"
                shown.append((row, text, False))
    return shown[:_MAX_ROWS]


def _draw_sheet(
    result: Diagnosis, image: str, shown: list[tuple[DiagnosisRow, str, bool]], maps: Mapping[str, Tensor]
) -> Image.Image:
    """Return a page with a row for each finding: its text, and the worst channels with their numbers."""
    from PIL import Image, ImageDraw

    width = 2 * MARGIN + _COLUMNS * (_SIDE + _GAP) - _GAP
    page = Image.new("RGB", (width, _TITLE_HEIGHT + _ROW_HEIGHT * len(shown) + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    title = shorten_to_width(f"{result.title}", 24, width - 2 * MARGIN)
    pen.text((MARGIN, 30), title, fill=INK, font=font(24))
    about = f"the channels with the largest numbers, on {image}; each from its least to its greatest value"
    pen.text((MARGIN, 68), shorten_to_width(about, 15, width - 2 * MARGIN), fill=GRAY, font=font(15))
    y = _TITLE_HEIGHT
    for row, text, is_past in shown:
        pen.line((MARGIN, y - 10, width - MARGIN, y - 10), fill=RULE, width=2)
        color = WARNING if is_past else INK
        pen.text((MARGIN, y), shorten_to_width(text, 17, width - 2 * MARGIN), fill=color, font=font(17))
        of_operation = maps.get(row.operation.path)
        for place, channel in enumerate(_worst(row, 0 if of_operation is None else len(of_operation))):
            x = MARGIN + place * (_SIDE + _GAP)
            if of_operation is not None:
                page.paste(fit_thumbnail(draw_map(of_operation[channel], _COLORS), _SIDE), (x, y + 28))
            number = f"{channel}: {row.numbers[channel]:.2g}" if row.numbers.size > 1 else f"{channel}"
            pen.text((x, y + 32 + _SIDE), number, fill=GRAY, font=font(13))
        y += _ROW_HEIGHT
    return page


def _worst(row: DiagnosisRow, channels: int) -> list[int]:
    """Return the channels with the largest absolute numbers; the first ones for one number of all."""
    if row.numbers.size != channels:
        return list(range(min(_COLUMNS, channels)))
    sizes = np.where(np.isnan(row.numbers), -1, np.abs(row.numbers))
    return [int(channel) for channel in np.argsort(-sizes, kind="stable")[:_COLUMNS]]


def _png(image: Image.Image) -> bytes:
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)
    return encode_png(Picture(pixels, None, np.zeros(1), np.ones(1)), {}, level=6)
