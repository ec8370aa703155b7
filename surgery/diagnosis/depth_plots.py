"""Plots of a measure over depth: a bar for each operation in order of execution, with the findings standing out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.builtin import GRAY, INK, RULE, WARNING, font, shorten_to_width
from surgery.diagnosis.plot_shapes import Box, Label

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from surgery.diagnosis.plot_shapes import Color, Shape
    from surgery.diagnosis.result import DiagnosisRow

_HEIGHT, _TOP, _LEFT, _RIGHT = 220, 78, 70, 30
"""The height of the axis, and the space around it, in pixels."""
_STEP, _BAR = 20, 12
"""From one bar to the next, and the width of a bar."""
_LABEL = 12
_MAX_LABEL = 200
_COLOR: Color = (58, 104, 168)
_PALE: Color = (186, 203, 226)
_DASH = 6


def plot_over_depth(
    title: str, reading: str, rows: Sequence[DiagnosisRow], threshold: float | None, past: Collection[str]
) -> tuple[list[Shape], int, int]:
    """Return the shapes of a plot with its width and height in pixels.

    A pale bar is the largest channel of an operation, a dark one the mean of its channels (or its only number), and an
    orange-red one an operation in `past`, the paths with a finding. `rows` are those of one measure.
    """
    numbers = [_sizes(row) for row in rows]
    highest = max([0.0, *(large for large, _ in numbers), *([threshold] if threshold else [])]) or 1.0
    label = min(_MAX_LABEL, max((font(_LABEL).getlength(row.operation.path) for row in rows), default=0.0))
    width = max(_LEFT + _STEP * len(rows) + _RIGHT, 640)
    bottom = _TOP + _HEIGHT
    shapes: list[Shape] = [
        Label(_LEFT, 26, title, 20, INK),
        Label(_LEFT, 52, shorten_to_width(reading, 13, width - _LEFT - _RIGHT), 13, GRAY),
    ]
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * _HEIGHT
        shapes.append(Box(_LEFT, y, width - _LEFT - _RIGHT, 1, RULE))
        shapes.append(Label(_LEFT - 8, y, f"{share * highest:.3g}", 12, GRAY, "end"))
    for number, (row, (large, mean)) in enumerate(zip(rows, numbers, strict=True)):
        x = _LEFT + _STEP * number + (_STEP - _BAR) / 2
        is_past = row.operation.path in past
        for size, color in ((large, _PALE), (mean, WARNING if is_past else _COLOR)):
            tall = _HEIGHT * min(1.0, size / highest)
            shapes.append(Box(x, bottom - tall, _BAR, max(tall, 1), color))
        if is_past:
            shapes.append(Box(x, bottom - _HEIGHT * large / highest, _BAR, 3, WARNING))
        path = shorten_to_width(row.operation.path, _LABEL, _MAX_LABEL)
        color = WARNING if is_past else INK
        shapes.append(Label(x + _BAR / 2, bottom + 8, path, _LABEL, color, "end", is_upright=True))
    if threshold:
        y = bottom - _HEIGHT * threshold / highest
        dashes = range(_LEFT, width - _RIGHT, 2 * _DASH)
        shapes += [Box(x, y, _DASH, 1, WARNING) for x in dashes]
        shapes.append(Label(width - _RIGHT, y - 9, f"a finding above {threshold:g}", 12, WARNING, "end"))
    return shapes, width, round(bottom + 8 + label + 14)


def _sizes(row: DiagnosisRow) -> tuple[float, float]:
    """Return the largest of the absolute numbers of the channels, and their mean; one number is both."""
    known = abs(row.numbers[row.numbers == row.numbers])
    if row.reduction in ("whole", "always"):
        return abs(row.number), abs(row.number)
    finite = known[known < float("inf")]
    return (float(finite.max()), float(finite.mean())) if finite.size else (0.0, 0.0)
