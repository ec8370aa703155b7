"""Measures of patterns that upsampling makes in a map: checkerboards, fine grids, aliases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, ClassVar

from surgery.errors import MeasureError

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Measure, MeasuredOperation

LEAST_PERIODS = 4
"""How often a checkerboard's period has to fit into each side of a map. In fewer, chance gives large shares."""


@dataclass(frozen=True, slots=True)
class Checkerboard:
    """The share of a map's variance that repeats with the stride of an upsampling: a checkerboard, and stripes.

    It is the variance of the means of the s x s phases over the variance of the map; a phase is every s-th position of
    every s-th row (Odena et al. 2016, Deconvolution and checkerboard artifacts). White noise in a map of HW values has
    (s^2 - 1) / (HW - 1) by chance. Maps with a side of fewer than four periods have no number;
    constant ones have 0.
    """

    stride: int = 2
    """The period, for an operation that no upsampling precedes; else it is that of the last upsampling."""
    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "1 is a pure checkerboard; in a map of at least 16x16, above 0.2 is visible"

    def __post_init__(self) -> None:
        if self.stride < 2:
            raise MeasureError(f"the stride of a checkerboard is at least 2, not {self.stride}")

    def of_operation(self, measured: MeasuredOperation, /) -> Measure:
        """Return the measure with the stride of the last upsampling before the operation, or in it."""
        return self if measured.upsampling is None else Checkerboard(measured.upsampling)

    def __call__(self, maps: Tensor, /) -> Tensor:
        stride = self.stride
        rows, columns = (size // stride for size in maps.shape[2:])
        if min(rows, columns) < LEAST_PERIODS:
            return maps.new_full(maps.shape[:2], math.nan).double()
        whole = maps[:, :, : rows * stride, : columns * stride].double()
        phases = whole.unflatten(3, (columns, stride)).unflatten(2, (rows, stride)).mean((2, 4))
        return share_of(
            phases.flatten(2).var(2, correction=0), whole.flatten(2).var(2, correction=0), rounding_variance(maps)
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """The checkerboard that a transposed convolution makes of constant maps, predicted from its weights alone.

    Each phase of the output sums other taps of the kernel. The number is the share of the phases' energy that their
    differences have (Sugawara et al. 2019, Checkerboard artifacts free convolutional neural networks). The values
    are not looked at, and other operations are not measured by it in a run.
    """

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "0 if all phases of the kernel have the same sums; 1 if one is the opposite of the others"

    def of_operation(self, measured: MeasuredOperation, /) -> Measure | None:
        """Return the measure of a transposed convolution's weights; None for any other operation."""
        module = measured.module
        weight, stride = getattr(module, "weight", None), getattr(module, "stride", None)
        if measured.operation.kind != "convtranspose2d" or weight is None or not isinstance(stride, tuple):
            return None
        if math.prod(stride) < 2:
            return None
        return partial(_overlap, weight=weight.detach().clone(), stride=stride, groups=getattr(module, "groups", 1))

    def __call__(self, maps: Tensor, /) -> Tensor:
        return maps.new_full(maps.shape[:2], math.nan).double()


def _overlap(maps: Tensor, *, weight: Tensor, stride: tuple[int, int], groups: int) -> Tensor:
    """Return the overlap ``(B, C)`` of a transposed convolution's weights ``(C', C / groups, h, w)``."""
    import torch

    split = weight.double().unflatten(0, (groups, -1))  # (groups, C' / groups, C / groups, h, w)
    rows, columns = stride
    places = product(range(rows), range(columns))
    sums = torch.stack([split[..., row::rows, column::columns].sum((3, 4)) for row, column in places], 3)
    share = share_of(sums.var(3, correction=0).sum(1), sums.square().mean(3).sum(1), 0.0).flatten()
    return share.to(maps.device).expand(maps.shape[0], -1)


@dataclass(frozen=True, slots=True)
class Grid:
    """The share of a map's variance that alternates from pixel to pixel in both directions.

    It is the energy of the diagonal coefficients of the Haar wavelet (Haar 1910; Mallat 1989) over that of all but the
    mean. A fine checkerboard has 1, white noise 1/4, but so does any fine detail: compare maps of one size.
    """

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "1 is a checkerboard of pixels, white noise has 0.25, a photo less than 0.02"

    def __call__(self, maps: Tensor, /) -> Tensor:
        rows, columns = (size // 2 * 2 for size in maps.shape[2:])
        if not rows or not columns or rows * columns < 4:
            return maps.new_full(maps.shape[:2], math.nan).double()
        whole = maps[:, :, :rows, :columns].double()
        diagonal = whole[:, :, ::2, ::2] - whole[:, :, ::2, 1::2] - whole[:, :, 1::2, ::2] + whole[:, :, 1::2, 1::2]
        spread = whole - whole.mean((2, 3), keepdim=True)
        return share_of(diagonal.square().mean((2, 3)) / 16, spread.square().mean((2, 3)), rounding_variance(maps))


@dataclass(frozen=True, slots=True)
class Aliasing:
    """The share of a map's energy, but for its mean, at frequencies above half of the band in either direction.

    What is there can't survive the next halving of the resolution: it folds back as aliases (Zhang 2019,
    arXiv:1904.11486; Karras et al. 2021, arXiv:2106.12423). White noise has about 0.75.
    """

    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "white noise has 0.75, smooth maps have less than 0.1"

    def __call__(self, maps: Tensor, /) -> Tensor:
        import torch

        height, width = maps.shape[2:]
        if min(height, width) < 4:
            return maps.new_full(maps.shape[:2], math.nan).double()
        whole = maps.double()
        whole = whole - whole.mean((2, 3), keepdim=True)
        energy = torch.fft.rfft2(whole, norm="forward").abs().square()
        columns = torch.fft.rfftfreq(width, device=maps.device)
        rows = torch.fft.fftfreq(height, device=maps.device).abs()
        # Columns other than the first and the middle one stand for two frequencies of a whole transform.
        energy[..., 1 : (width + 1) // 2] *= 2
        high = torch.maximum(rows[:, None], columns) > 0.25
        return share_of((energy * high).sum((2, 3)), energy.sum((2, 3)), rounding_variance(maps))


def rounding_variance(maps: Tensor) -> Tensor:
    """Return the variance ``(B, C)`` that rounding may leave in maps that would be constant without it."""
    import torch

    size = maps.abs().amax((2, 3)).double()
    return (4 * float(torch.finfo(maps.dtype).eps) * size).square()


def share_of(part: Tensor, whole: Tensor, least: Tensor | float) -> Tensor:
    """Return part over whole, from 0 to 1: 0 where the whole is at most `least`, and NaN where it is NaN."""
    return (part / whole).clamp(0, 1).where(whole > least, 0.0).where(whole.isfinite(), math.nan)
