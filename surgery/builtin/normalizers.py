"""The normalizers that come with the project: they choose the limits, the values at the ends of the scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias, get_args

from surgery.errors import RenderError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Normalizer

Per: TypeAlias = Literal["channel", "layer", "batch"]
"""One pair of limits for each channel of each image, for each image ("layer"), or for the whole batch."""

_AXES = {"channel": (2, 3), "layer": (1, 2, 3), "batch": (0, 1, 2, 3)}

MAX_SAMPLES = 1024
"""The most values that a percentile is computed from."""


@dataclass(frozen=True, slots=True)
class MinMax:
    """From the least to the greatest value."""

    per: Per = "channel"

    def __post_init__(self) -> None:
        _check(self.per)

    @property
    def are_extremes(self) -> bool:
        """Whether the limits are exactly the least and the greatest value of each channel."""
        return self.per == "channel"

    def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]:
        return self.of_extremes(values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True))

    def of_extremes(self, least: Tensor, most: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the limits from the least and the greatest value of each channel, ``(B, C, 1, 1)``."""
        if self.per == "channel":
            return least, most
        axes = _AXES[self.per]
        return least.amin(axes, keepdim=True), most.amax(axes, keepdim=True)


@dataclass(frozen=True, slots=True)
class Percentile:
    """From one percentile to another, so that a few outliers do not darken the rest.

    Interpolated linearly between neighbors, like `numpy.percentile`. Each pair of limits is computed from at most 1,024
    evenly spaced values. If there are more, the percentage of values below a limit is off by at most 4.7 points at the
    median and 0.93 points at 1 or 99 percent (three standard errors of a random sample,
    ``3 * sqrt(p * (1 - p) / 1024)``).
    """

    low: float = 1.0
    high: float = 99.0
    per: Per = "channel"

    def __post_init__(self) -> None:
        _check(self.per)
        if not 0 <= self.low < self.high <= 100:
            raise RenderError(f"percentiles are 0 <= low < high <= 100, not {self.low:g} and {self.high:g}")

    def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]:
        import torch

        batch, channels = values.shape[:2]
        shape = {"channel": (batch, channels), "layer": (batch, 1), "batch": (1, 1)}[self.per]
        flat = values.reshape(shape[0] * shape[1], -1)
        step = -(-flat.shape[1] // MAX_SAMPLES)
        # A step that is a divisor of the width would sample some columns only.
        while step > 1 and values.shape[3] > 1 and values.shape[3] % step == 0:
            step += 1
        ranked = _sort_rows(flat[:, ::step])
        last = ranked.shape[1] - 1
        limits = []
        for percent in (self.low, self.high):
            rank = percent / 100 * last
            below = ranked[:, math.floor(rank)]
            limits.append(torch.lerp(below, ranked[:, math.ceil(rank)], rank - math.floor(rank)))
        return limits[0].reshape(*shape, 1, 1), limits[1].reshape(*shape, 1, 1)


def _sort_rows(rows: Tensor) -> Tensor:
    """Return rows ``(n, m)``, each sorted in ascending order."""
    if rows.device.type != "cpu":
        return rows.sort(1).values
    import numpy as np
    import torch

    return torch.from_numpy(np.sort(rows.numpy(), axis=1))  # NumPy's sort is vectorized


@dataclass(frozen=True, slots=True)
class Symmetric:
    """From minus to plus the greatest magnitude, so that zero is in the middle. Drawn with a diverging colormap."""

    per: Per = "channel"
    colormap: ClassVar[str] = "colorbrewer:RdBu_r"

    def __post_init__(self) -> None:
        _check(self.per)

    def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]:
        return self.of_extremes(values.amin((2, 3), keepdim=True), values.amax((2, 3), keepdim=True))

    def of_extremes(self, least: Tensor, most: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the limits from the least and the greatest value of each channel, ``(B, C, 1, 1)``."""
        greatest = most.maximum(-least).amax(_AXES[self.per], keepdim=True)
        return -greatest, greatest


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same limits for everything: `Fixed(0, 1)` clips values like ``clamp(0, 1)``."""

    low: float = 0.0
    high: float = 1.0
    per: Per = "channel"
    """Accepted like that of the other normalizers, without effect: the limits are the same everywhere."""

    def __post_init__(self) -> None:
        _check(self.per)
        if not self.low < self.high:
            raise RenderError(f"fixed limits are low < high, not {self.low:g} and {self.high:g}")

    def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]:
        return self.of_extremes(values, values)

    def of_extremes(self, least: Tensor, _most: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the fixed limits."""
        import torch

        low, high = (torch.full((), limit, dtype=torch.float64, device=least.device) for limit in (self.low, self.high))
        return low, high


def _check(per: str) -> None:
    if per not in get_args(Per):
        raise RenderError(f"per is channel, layer or batch, not {per!r}")


NORMALIZERS: dict[str, Normalizer] = {
    "minmax": MinMax(),
    "percentile": Percentile(),
    "symmetric": Symmetric(),
    "fixed": Fixed(),
}
