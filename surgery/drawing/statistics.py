"""What is found of an activation's values while they are there: extremes, and statistics where they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.drawing.host_copies import HostCopy
from surgery.drawing.quantization import find_extremes, find_finite_extremes
from surgery.types import Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """The least and the greatest values of a batch's maps."""

    raw: Tensor
    """``(2, B, C)``, NaN where one is among them."""
    finite_range: Tensor
    """``(2, B, C)``, of the finite values alone; inf and -inf where there is none."""
    nonfinite: Tensor | None
    """``(2, B)``: whether there is a NaN in an image, or an infinity; None where there is neither."""
    finite: bool | None
    """Whether all values are finite; None where nobody may wait to know."""

    @classmethod
    def from_maps(cls, maps: Tensor) -> Extremes:
        raw = find_extremes(maps)
        finite = bool(np.isfinite(raw.numpy()).all()) if maps.device.type == "cpu" else None
        if finite:
            return cls(raw, raw, None, finite)
        return cls(raw, find_finite_extremes(maps), torch.stack((maps.isnan(), maps.isinf())).flatten(2).any(2), finite)

    def including(self, other: Extremes) -> Extremes:
        """These, with those of values that belong to no map among the known ones."""
        both = [each for each in (self.nonfinite, other.nonfinite) if each is not None]
        nonfinite = both[0] | both[1] if len(both) == 2 else both[0] if both else None
        return Extremes(
            self.raw, torch.cat((self.finite_range, other.finite_range), 2), nonfinite, self.finite and other.finite
        )

    def copy_to_host(self) -> tuple[HostCopy, HostCopy, HostCopy | None]:
        raw = HostCopy(self.raw)
        known = raw if self.finite_range is self.raw else HostCopy(self.finite_range)
        return raw, known, None if self.nonfinite is None else HostCopy(self.nonfinite)


@dataclass(frozen=True, slots=True, eq=False)
class FactsSource:
    """What the facts of a batch are made of."""

    channels: int
    has_several_values: bool
    """Whether a map has more than one value."""
    extremes: tuple[HostCopy, HostCopy, HostCopy | None] | None
    """None where there are no values."""
    statistics: HostCopy | None

    def facts(self, batch: int) -> tuple[Facts, ...]:
        if self.extremes is None:
            return (Facts(None, None, 0, 0, nan=False, inf=False),) * batch
        raw, known = (each.numpy() for each in self.extremes[:2])
        nonfinite = None if self.extremes[2] is None else self.extremes[2].numpy()
        none = [False] * batch
        nan, inf = (none, none) if nonfinite is None else nonfinite.tolist()
        # By ufuncs, since the methods of arrays take as long again to find them.
        constant = np.add.reduce(raw[0] == raw[1], axis=1).tolist() if self.has_several_values else [0] * batch
        exact = (
            [{}] * batch if self.statistics is None else [_statistics_fields(row) for row in self.statistics.numpy()]
        )
        least_of_each, most_of_each = np.minimum.reduce(known[0], axis=1), np.maximum.reduce(known[1], axis=1)
        found = zip(least_of_each.tolist(), most_of_each.tolist(), constant, nan, inf, exact, strict=True)
        return tuple(
            Facts(
                min=least if least <= most else None,
                max=most if least <= most else None,
                channels=self.channels,
                constant_channels=equal,
                nan=has_nan,
                inf=has_inf,
                **rest,
            )
            for least, most, equal, has_nan, has_inf, rest in found
        )


def compute_statistics(maps: Tensor) -> Tensor:
    """``(5,)`` float64: mean and deviation of the finite values, share of zeros, numbers of NaN and of infinities."""
    values = maps[maps.isfinite()].double()
    zeros = (maps == 0).double().mean()
    # Of no values torch gives NaN, which stands for that.
    found = (values.mean(), values.std(correction=0), zeros, maps.isnan().sum(), maps.isinf().sum())
    return torch.stack([each.double() for each in found])


def _statistics_fields(row: NDArray[np.float64]) -> dict[str, Any]:
    mean, std, zeros, nan, inf = row.tolist()
    mean, std = (None if math.isnan(each) else each for each in (mean, std))
    return {"mean": mean, "std": std, "zeros": zeros, "nan_count": int(nan), "inf_count": int(inf)}
