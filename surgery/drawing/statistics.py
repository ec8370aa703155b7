"""What is found of an activation's values while they are there: extremes, and statistics where they are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.drawing.host_copies import Fetched
from surgery.drawing.quantization import find_extremes, finite_extremes
from surgery.types import Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """The least and the greatest values of a batch's maps."""

    raw: Tensor
    """``(2, B, C)``, NaN where one is among them."""
    known: Tensor
    """``(2, B, C)``, of the finite values alone; inf and -inf where there is none."""
    spoiled: Tensor | None
    """``(2, B)``: whether there is a NaN in an image, or an infinity; None where there is neither."""
    finite: bool | None
    """Whether all values are finite; None where nobody may wait to know."""

    @classmethod
    def of(cls, maps: Tensor) -> Extremes:
        raw = find_extremes(maps)
        finite = bool(np.isfinite(raw.numpy()).all()) if maps.device.type == "cpu" else None
        if finite:
            return cls(raw, raw, None, finite)
        return cls(raw, finite_extremes(maps), torch.stack((maps.isnan(), maps.isinf())).flatten(2).any(2), finite)

    def beside(self, other: Extremes) -> Extremes:
        """These, with those of values that belong to no map among the known ones."""
        both = [each for each in (self.spoiled, other.spoiled) if each is not None]
        spoiled = both[0] | both[1] if len(both) == 2 else both[0] if both else None
        return Extremes(self.raw, torch.cat((self.known, other.known), 2), spoiled, self.finite and other.finite)

    def fetched(self) -> tuple[Fetched, Fetched, Fetched | None]:
        raw = Fetched(self.raw)
        known = raw if self.known is self.raw else Fetched(self.known)
        return raw, known, None if self.spoiled is None else Fetched(self.spoiled)


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What the facts of a batch are made of."""

    channels: int
    several: bool
    """Whether a map has more than one value."""
    extremes: tuple[Fetched, Fetched, Fetched | None] | None
    """None where there are no values."""
    statistics: Fetched | None

    def facts(self, batch: int) -> tuple[Facts, ...]:
        if self.extremes is None:
            return (Facts(None, None, 0, 0, nan=False, inf=False),) * batch
        raw, known = (each.numpy() for each in self.extremes[:2])
        spoiled = None if self.extremes[2] is None else self.extremes[2].numpy()
        none = [False] * batch
        nan, inf = (none, none) if spoiled is None else spoiled.tolist()
        # By ufuncs, since the methods of arrays take as long again to find them.
        constant = np.add.reduce(raw[0] == raw[1], axis=1).tolist() if self.several else [0] * batch
        exact = [{}] * batch if self.statistics is None else [_named(row) for row in self.statistics.numpy()]
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


def statistics_of(maps: Tensor) -> Tensor:
    """``(5,)`` float64: mean and deviation of the finite values, share of zeros, numbers of NaN and of infinities."""
    values = maps[maps.isfinite()].double()
    zeros = (maps == 0).double().mean()
    # Of no values torch gives NaN, which stands for that.
    found = (values.mean(), values.std(correction=0), zeros, maps.isnan().sum(), maps.isinf().sum())
    return torch.stack([each.double() for each in found])


def _named(row: NDArray[np.float64]) -> dict[str, Any]:
    mean, std, zeros, nan, inf = row.tolist()
    mean, std = (None if math.isnan(each) else each for each in (mean, std))
    return {"mean": mean, "std": std, "zeros": zeros, "nan_count": int(nan), "inf_count": int(inf)}
