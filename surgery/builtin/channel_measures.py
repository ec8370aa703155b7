"""Measures of each channel by itself: whether it says anything, and how its values are distributed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from surgery.errors import MeasureError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Measure, MeasuredOperation


@dataclass(frozen=True, slots=True)
class NotFinite:
    """The share of values that are NaN or infinite (IEEE 754)."""

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "0 is sound; anything else spreads to all that follows"

    def __call__(self, maps: Tensor, /) -> Tensor:
        return 1 - maps.isfinite().double().mean((2, 3))


@dataclass(frozen=True, slots=True)
class Dead:
    """1 for a channel that is zero everywhere, else 0 (the dying ReLU; Lu et al. 2019, arXiv:1903.06733)."""

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "the share of images in which the channel is zero everywhere"

    def __call__(self, maps: Tensor, /) -> Tensor:
        return (maps == 0).flatten(2).all(2).double()


@dataclass(frozen=True, slots=True)
class Constant:
    """1 for a channel that has one value everywhere, zero or another, else 0. Maps of one value have no number.

    A network whose ReLUs have died computes a constant function (Lu et al. 2019, arXiv:1903.06733).
    """

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "the share of images in which the channel has one value everywhere"

    def __call__(self, maps: Tensor, /) -> Tensor:
        flat = maps.flatten(2)
        if flat.shape[2] < 2:
            return maps.new_full(flat.shape[:2], math.nan).double()
        return (flat == flat[:, :, :1]).all(2).double()


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The share of values that are exactly zero (Glorot et al. 2011, Deep sparse rectifier neural networks)."""

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "about 0.5 after a ReLU; 1 is a dead channel"

    def __call__(self, maps: Tensor, /) -> Tensor:
        return (maps == 0).double().mean((2, 3))


@dataclass(frozen=True, slots=True)
class Saturated:
    """The share of values at the ends of a bounded nonlinearity, where gradients vanish (Glorot and Bengio 2010).

    The ends are those of the operation: of tanh, sigmoid, hardtanh and hardsigmoid both, of ReLU6 the upper one. Other
    operations are not measured by it in a run; called on its own, it takes its options.
    """

    low: float | None = -1.0
    """The lower end; none for no end."""
    high: float | None = 1.0
    """The upper end; none for no end."""
    within: float = 0.01
    """How near to an end counts: a share of the distance between the ends, or of the end if it is one."""
    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "near 1, almost no gradient passes; an image with much black or white has some"

    def __post_init__(self) -> None:
        if not 0 <= self.within < 0.5:
            raise MeasureError(f"within is a share from 0 to below 0.5, not {self.within:g}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise MeasureError(f"the lower end is below the upper one, not {self.low:g} and {self.high:g}")

    def of_operation(self, measured: MeasuredOperation, /) -> Measure | None:
        """Return the measure with the ends of the operation; None for an operation without ends."""
        module = measured.module
        ends: dict[str, tuple[float | None, float | None]] = {
            "tanh": (-1.0, 1.0),
            "sigmoid": (0.0, 1.0),
            "hardsigmoid": (0.0, 1.0),
            "relu6": (None, 6.0),
            "hardtanh": (getattr(module, "min_val", -1.0), getattr(module, "max_val", 1.0)),
        }
        found = ends.get(measured.operation.kind)
        return None if found is None else replace(self, low=found[0], high=found[1])

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        low, high = self.low, self.high
        span = (high if high is not None else 0.0) - (low if low is not None else 0.0)
        margin = self.within * abs(span)
        at_end = torch.zeros_like(maps, dtype=torch.bool)
        if low is not None:
            at_end |= maps <= low + margin
        if high is not None:
            at_end |= maps >= high - margin
        return at_end.double().mean((2, 3))


@dataclass(frozen=True, slots=True)
class Outliers:
    """The largest distance from the mean over the 99.9th percentile of the distances: droplets, single huge values.

    The droplets of StyleGAN are such values (Karras et al. 2020, arXiv:1912.04958). Maps of fewer than 1,000 values,
    and constant ones, have no number.
    """

    unit: ClassVar[str] = "ratio"
    reading: ClassVar[str] = "1 to 3 is usual; above 10, a few positions stand out from all others"

    def __call__(self, maps: Tensor, /) -> Tensor:
        flat = maps.flatten(2).double()
        count = flat.shape[2]
        if count < 1000:
            return flat.new_full(flat.shape[:2], math.nan)
        distance = (flat - flat.mean(2, keepdim=True)).abs()
        place = 0.001 * (count - 1)  # from the largest; between two of them, as a percentile is
        largest = distance.topk(int(place) + 2, dim=2).values
        share = place - int(place)
        percentile = largest[..., -2] * (1 - share) + largest[..., -1] * share
        ratio = largest[..., 0] / percentile
        return ratio.where(percentile > 0, math.nan)


@dataclass(frozen=True, slots=True)
class Rank:
    """The effective rank of the channels over space: the exponential of the entropy of their singular values.

    Roy and Vetterli 2007, The effective rank. The mean of each channel is subtracted first. One number for all
    channels of an image: as many independent maps would carry as much.
    """

    unit: ClassVar[str] = "channels"
    reading: ClassVar[str] = "from 1, all channels are multiples of one map, to their number"

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        flat = maps.flatten(2).double()
        finite = flat.isfinite().flatten(1).all(1)
        flat = flat.where(finite[:, None, None], 0.0)
        flat = flat - flat.mean(2, keepdim=True)
        size = flat.abs().amax((1, 2), keepdim=True)
        flat = flat / size.where(size > 0, 1.0)  # so that the squares of large values stay finite
        gram = flat @ flat.mT if flat.shape[1] <= flat.shape[2] else flat.mT @ flat
        squares = torch.linalg.eigvalsh(gram).clamp_min(0)
        # Rounding makes eigenvalues of this size where there are none.
        squares = squares.where(squares > squares[:, -1:] * 1e-13, 0.0)
        shares = squares.sqrt() / squares.sqrt().sum(1, keepdim=True)
        entropy = -torch.special.xlogy(shares, shares).sum(1, keepdim=True)
        rank: Tensor = entropy.exp()
        return rank.where(finite[:, None], math.nan)


@dataclass(frozen=True, slots=True)
class ModeGap:
    """How far the mean of a batch norm's input is from its running mean, in running standard deviations.

    In eval mode a batch norm uses what it has seen in training (Ioffe and Szegedy 2015, arXiv:1502.03167). Where an
    image's own mean is far from it, train mode gives another output. Measured after batch norms in eval mode.
    """

    unit: ClassVar[str] = "deviations"
    reading: ClassVar[str] = "0 if eval and train mode agree; near 1, they give different outputs"

    def of_operation(self, measured: MeasuredOperation, /) -> Measure | None:
        """Return the measure with a batch norm's weight and bias; None for another operation, and in train mode."""
        module = measured.module
        if getattr(module, "running_mean", None) is None or module is None or module.training:
            return None
        if not hasattr(module, "num_batches_tracked") and "batchnorm" not in type(module).__name__.lower():
            return None
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        copies = [None if each is None else each.detach().clone() for each in (weight, bias)]
        return partial(_mode_gap, weight=copies[0], bias=copies[1])

    def __call__(self, maps: Tensor, /) -> Tensor:
        return _mode_gap(maps)


def _mode_gap(maps: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Return the means ``(B, C)`` of maps before a batch norm's weight and bias ``(C,)`` were applied."""
    means = maps.double().mean((2, 3))
    means = means if bias is None else means - bias.to(means)
    return means if weight is None else (means / weight.to(means)).where(weight.to(maps.device) != 0, math.nan)
