"""The measure of patterns that repeat every few pixels, by the power spectrum of a map's blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from surgery.builtin.pattern_measures import rounding_variance, share_of
from surgery.errors import MeasureError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Measure, MeasuredOperation

_STEPS = 8
"""Steps of a block's spectrum from one frequency of a pattern to the next: the periods in a block."""


@dataclass(frozen=True, slots=True)
class Periodic:
    """The share of a map's variance that repeats with a period, also where its strength or sign goes with the content.

    A pattern of period p has its power at multiples of 1/p of the sampling frequency, along rows, columns or both
    (Odena et al. 2016, Deconvolution and checkerboard artifacts; Zhang et al. 2019, Detecting and simulating artifacts
    in GAN fake images). What counts is the power there in excess of the power beside it, the mean of both sides, in the
    mean spectrum of blocks of 8p x 8p positions that overlap by half, under a Hann window (Welch 1967). Multiples that
    a shorter period has too don't count, so that each upsampling of a chain has a number of its own.

    Smooth maps, edges and lines have almost 0, and so have textures of most other periods. White noise has 0.04 in one
    block of 16x16, and 0.001 in 256x256. The variance is that within blocks, which in a picture is mostly due to its
    content: measure where the picture should be smooth. Maps with a side of fewer than eight periods have no number.
    """

    period: int | None = None
    """In positions of the map; None for the stride of the last upsampling in or before the operation, or else 2."""
    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "1 is nothing but a pattern of this period, smooth maps and edges have less than 0.01"

    def __post_init__(self) -> None:
        if self.period is not None and self.period < 2:
            raise MeasureError(f"the period of a pattern is at least 2, not {self.period}")

    def of_operation(self, measured: MeasuredOperation, /) -> Measure:
        """Return the measure with the stride of the last upsampling, if no period was asked for."""
        return self if self.period is not None else replace(self, period=measured.upsampling)

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        period = self.period or 2
        if min(maps.shape[2:]) < _STEPS * period:
            return maps.new_full(maps.shape[:2], torch.nan, dtype=torch.float64)
        parts = [_measure(values.double(), period) for values in maps.flatten(0, 1)]
        pattern, variance = torch.stack(parts).unflatten(0, maps.shape[:2]).unbind(2)
        return share_of(pattern, variance, rounding_variance(maps))


def _measure(values: Tensor, period: int) -> Tensor:
    """Return the variance ``(2,)`` of the pattern in one map ``(H, W)``, and that of all."""
    import torch

    power = _block_spectrum(values, _STEPS * period)
    excess = (_at_multiples(_at_multiples(power).T) - _beside(_beside(power).T)).clamp(min=0)
    steps = torch.arange(period)
    is_own = steps[:, None].gcd(steps).gcd(torch.tensor(period)) == 1
    return torch.stack([excess[is_own.to(excess.device)].sum(), power.sum()])


def _at_multiples(power: Tensor) -> Tensor:
    """Return the power at each multiple of a pattern's frequency: ``(8 * p, N) -> (p, N)``.

    A Hann window spreads it over three frequencies.
    """
    return (power.roll(1, 0) + power + power.roll(-1, 0))[::_STEPS]


def _beside(power: Tensor) -> Tensor:
    """Return what would be there without a pattern, the mean of both sides: ``(8 * p, N) -> (p, N)``.

    Two frequencies away is neither this pattern nor one of twice the period. At zero there is no other side: what does
    not change along an axis is compared with what doesn't.
    """
    beside = 3 * (power.roll(2, 0) + power.roll(-2, 0))[::_STEPS] / 2
    beside[0] = _at_multiples(power)[0]
    return beside


def _block_spectrum(values: Tensor, size: int) -> Tensor:
    """Return the mean power spectrum ``(size, size)`` of blocks without their means, whose sum is their variance."""
    import torch

    window = torch.hann_window(size, dtype=values.dtype, device=values.device)
    weights = window[:, None] * window
    blocks = values.unfold(0, size, size // 2).unfold(1, size, size // 2)
    means = (blocks * weights).sum((2, 3), keepdim=True) / weights.sum()
    power: Tensor = torch.fft.fft2((blocks - means) * weights).abs().square().mean((0, 1))
    power /= weights.square().sum() * size**2
    return power
