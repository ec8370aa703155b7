"""From which number on a measure is a finding, and why."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.errors import MeasureError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.diagnosis.channel_numbers import Numbers

Reduction: TypeAlias = Literal["largest", "mean", "rms", "always", "whole"]

THRESHOLDS: Mapping[str, float] = {
    "not-finite": 0.0,
    "dead": 0.0,
    "constant": 0.0,
    "saturated": 0.5,
    "outliers": 10.0,
    "mode-gap": 0.3,
    "checkerboard": 0.2,
    "periodic": 0.25,
    "similarity": 0.98,
    "noise": 0.05,
}
"""A number above its threshold is a finding. Measures that are not listed have none, unless the user sets one.

Each lies between what networks that are known to be good show, and the same networks with a planted defect. Good are
the shipped generator, but for what is known of it (a checkerboard in up5 to up3, and up8.norm, whose running statistics
are of 2x2 maps), and a resnet18 of random weights that was trained for a few steps, on the four shipped inputs.

- ``not-finite``, ``dead``, ``constant``: none in either. One such channel is a defect, whatever its cause.
- ``saturated``: 0.002 in the shipped tanh; 0.94 with inputs that are 60 times as large.
- ``outliers``: at most 1.8; 50 with a single value of 50 deviations.
- ``mode-gap``: at most 0.17 in the other norms, 0.24 in a resnet18 whose running statistics are young; 0.56 in
  up8.norm, and from 0.8 in a norm after a new layer. In few values it has to be more than chance makes of them.
- ``checkerboard``: in maps of at least 16x16 without an upsampling before them at most 0.08 in the generator, 0.14 in a
  resnet18; from 0.26 after a kernel with one phase of three times the weight.
- ``periodic``: without an upsampling before them at most 0.1 in the generator, 0.13 in a resnet18; from 0.26 after a
  kernel with one phase of twice the weight, also in the last layer, where the checkerboard is 0.003.
- ``similarity``: at most 0.87 (the inputs themselves have 0.33), 0.95 after 100 epochs; 1 where the input is ignored.
- ``noise``: none in eval mode; 0.53 after a dropout of one half.
"""

REDUCTIONS: Mapping[str, Reduction] = {
    "dead": "always",
    "constant": "always",
    "sparsity": "mean",
    "saturated": "mean",
    "mode-gap": "rms",
    "similarity": "mean",
    "noise": "whole",
    "drift": "whole",
    "equivariance": "whole",
    "rank": "whole",
}
"""How the numbers of an operation's channels become one; by default it is the largest."""

LEAST_POSITIONS: Mapping[str, int] = {"dead": 16, "constant": 16, "checkerboard": 256, "periodic": 256}
"""The least number of positions for a finding: those of a map for patterns, those of all images for the others.

In fewer, chance makes such numbers: a ReLU on a map of 1x1 is zero in every other channel, and noise in a map of 8x8
has a checkerboard of up to 0.2.
"""


def merge_thresholds(given: Mapping[str, float | None], measures: Sequence[str]) -> dict[str, float]:
    """Return the thresholds of measures, with those that the user gives; None switches one off.

    Raises MeasureError for a measure that is not taken, and for a threshold that is no finite number.
    """
    for name, value in given.items():
        if name not in measures:
            hint = did_you_mean(name, measures)
            raise MeasureError(f"there is no measure {name!r} in this diagnosis, which has {', '.join(measures)}{hint}")
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise MeasureError(f"the threshold of {name} is a finite number or None, not {value!r:.60}")
    merged: dict[str, float | None] = {name: THRESHOLDS.get(name.partition(":")[0]) for name in measures}
    return {name: float(value) for name, value in {**merged, **given}.items() if value is not None}


def reduce_numbers(measure: str, numbers: Numbers) -> tuple[float, Reduction, int | None]:
    """Return the one number of an operation's channels, how it was made, and the channel with the largest.

    It is NaN, without a channel, if no channel has a number.
    """
    known = numbers[numbers == numbers]  # noqa: PLR0124 - without NaN
    reduction = REDUCTIONS.get(measure.partition(":")[0], "largest")
    if not known.size:
        return math.nan, reduction, None
    order = abs(numbers)
    order[order != order] = -1  # noqa: PLR0124
    channel = int(order.argmax()) if numbers.size > 1 else None
    if reduction == "always":
        return float((known == 1).sum() / numbers.size), reduction, channel
    if reduction == "rms":
        return float((known**2).mean() ** 0.5), reduction, channel
    if reduction == "largest":
        return float(known[abs(known).argmax()]), reduction, channel
    return float(known.mean()), reduction, channel
