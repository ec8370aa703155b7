"""Facts about a batch's values: extremes, and exact statistics if the recipe wants them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surgery.types import Facts

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.drawing.extremes import HostExtremes
    from surgery.drawing.host_copies import HostCopy


@dataclass(frozen=True, slots=True, eq=False)
class FactsSource:
    """The numbers that the facts of a batch are made of, on the host or on the way there."""

    channels: int
    has_several_values: bool
    """Whether a map has more than one value; else no channel counts as constant."""
    extremes: HostExtremes | None
    """None if there are no values."""
    statistics: HostCopy | None
    """``(B, 5)`` as `compute_statistics` returns them; None if the recipe does not want them."""

    def facts(self, batch: int) -> tuple[Facts, ...]:
        """Return the facts of each of `batch` images. Waits for the numbers."""
        if self.extremes is None:
            return (Facts(None, None, 0, 0, nan=False, inf=False),) * batch
        raw, finite = self.extremes.raw.numpy(), self.extremes.finite.numpy()
        nan = inf = [False] * batch
        if self.extremes.nonfinite_images is not None:
            nan, inf = self.extremes.nonfinite_images.numpy().tolist()
        # Ufuncs, since the methods of arrays are slower for so few values.
        constant = np.add.reduce(raw[0] == raw[1], axis=1).tolist() if self.has_several_values else [0] * batch
        least, greatest = np.minimum.reduce(finite[0], axis=1).tolist(), np.maximum.reduce(finite[1], axis=1).tolist()
        exact: list[dict[str, Any]] = [{}] * batch
        if self.statistics is not None:
            exact = [_statistics_fields(row) for row in self.statistics.numpy()]
        return tuple(
            Facts(
                min=least[image] if least[image] <= greatest[image] else None,
                max=greatest[image] if least[image] <= greatest[image] else None,
                channels=self.channels,
                constant_channels=constant[image],
                nan=nan[image],
                inf=inf[image],
                **exact[image],
            )
            for image in range(batch)
        )


def compute_statistics(values: Tensor) -> Tensor:
    """Return ``(5,)`` float64 for one image's values.

    They are the mean and the standard deviation of the finite values (NaN if there are none), the share of zeros, the
    number of NaN and the number of infinities.
    """
    finite = values[values.isfinite()].double()
    zeros = (values == 0).double().mean()
    numbers = (finite.mean(), finite.std(correction=0), zeros, values.isnan().sum(), values.isinf().sum())
    return torch.stack([number.double() for number in numbers])


def _statistics_fields(row: NDArray[np.float64]) -> dict[str, Any]:
    mean, std, zeros, nan, inf = row.tolist()
    mean, std = (None if math.isnan(number) else number for number in (mean, std))
    return {"mean": mean, "std": std, "zeros": zeros, "nan_count": int(nan), "inf_count": int(inf)}
