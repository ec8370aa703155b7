"""How far a value is from its counterpart in another run, in numbers that are exact for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from surgery.comparison.row_sums import measure_rows, ratio
from surgery.graph import bitwise_equal, named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class PairMeasures:
    """The difference of two values of the same shape, of one image. All sums are of float64 numbers."""

    max_difference: float
    """The largest absolute difference. NaN and infinities of one value alone count as infinite."""
    mean_difference: float
    """The mean absolute difference."""
    relative: float
    """The norm of the difference over the norm of the first value; infinite if that is zero and the other is not."""
    snr: float
    """Signal-to-noise ratio in dB, ``-20 log10(relative)``: infinite for equal values."""
    cosine: float
    """Cosine of the angle between the values, from -1 to 1; 1 for two zeros."""
    equal: float
    """The share of elements whose bits are equal, from 0 to 1."""
    correlation: float
    """The mean over channels of the correlation of their maps, from -1 to 1, of those that are constant in neither."""

    @property
    def is_equal(self) -> bool:
        """Whether all bits are equal."""
        return self.equal == 1


def measure_pair(first: Tensor, second: Tensor, channels: Callable[[Tensor], Tensor]) -> PairMeasures:
    """Return the measures of two tensors of the same shape. `channels` returns one as ``(B, C, ...)`` maps."""
    if not first.numel():
        return PairMeasures(0.0, 0.0, 0.0, math.inf, 1.0, 1.0, 1.0)
    is_equal = bitwise_equal(first, second)
    ones, others = (_as_rows(channels(_on_cpu(each))) for each in (first, second))
    sums = measure_rows(ones, others)
    if not math.isfinite(sums.square_first + sums.square_second + sums.square_difference):
        return _measure_with_infinities(ones, others, _share_equal(first, second))
    norm, other_norm = math.sqrt(sums.square_first), math.sqrt(sums.square_second)
    relative = ratio(math.sqrt(sums.square_difference), norm)
    product = norm * other_norm
    return PairMeasures(
        max_difference=sums.max_difference,
        mean_difference=sums.sum_difference / ones.numel(),
        relative=relative,
        snr=decibels(relative),
        cosine=1.0 if is_equal else sums.product / product if product else float(norm == other_norm),
        equal=1.0 if is_equal else _share_equal(first, second),
        correlation=sums.correlation,
    )


def _measure_with_infinities(ones: Tensor, others: Tensor, equal: float) -> PairMeasures:
    """Return the measures of values with NaN or infinities: what one value alone has counts as infinite."""
    one, other = ones.double(), others.double()
    is_same = (one == other) | (one.isnan() & other.isnan())
    difference = torch.where(is_same, 0.0, one - other).abs_().nan_to_num_(math.inf, math.inf)
    one, other = (torch.where(each.isfinite(), each, 0.0) for each in (one, other))
    sums = measure_rows(one, other)
    relative = ratio(float(difference.norm()), math.sqrt(sums.square_first))
    product = math.sqrt(sums.square_first * sums.square_second)
    return PairMeasures(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        relative=relative,
        snr=decibels(relative),
        cosine=sums.product / product if product else float(sums.square_first == sums.square_second),
        equal=equal,
        correlation=sums.correlation,
    )


def decibels(relative: float) -> float:
    """Return a relative difference as a signal-to-noise ratio in dB."""
    if relative == 0:
        return math.inf
    return -20 * math.log10(relative) if math.isfinite(relative) else -math.inf


def mean_and_worst(measured: Sequence[PairMeasures]) -> tuple[PairMeasures, PairMeasures]:
    """Return the mean of each measure over images, and the worst one of each."""
    worst_of = {"snr": min, "cosine": min, "equal": min, "correlation": min}
    means: dict[str, float] = {}
    worsts: dict[str, float] = {}
    for field in fields(PairMeasures):
        numbers = [getattr(each, field.name) for each in measured]
        known = [number for number in numbers if not math.isnan(number)]
        means[field.name] = sum(known) / len(known) if known else math.nan
        worsts[field.name] = worst_of.get(field.name, max)(known) if known else math.nan
    relatives = [each.relative for each in measured]
    means["snr"] = decibels(math.sqrt(sum(value**2 for value in relatives) / len(relatives)))  # of the mean power
    return PairMeasures(**means), PairMeasures(**worsts)


def paired_tensors(first: Any, second: Any) -> list[tuple[str, Tensor, Tensor]] | str:
    """Return the tensors of two values that correspond, with their keys; or why they can't be compared."""
    ones, others = list(named_tensors(first)), list(named_tensors(second))
    if [key for key, _ in ones] != [key for key, _ in others]:
        return f"{len(ones)} tensors against {len(others)}"
    for (key, one), (_, other) in zip(ones, others, strict=True):
        if one.shape != other.shape:
            shapes = " against ".join("x".join(map(str, each.shape)) or "a scalar" for each in (one, other))
            return f"{shapes}{f' in {key}' if key else ''}"
    return [(key, one, other) for (key, one), (_, other) in zip(ones, others, strict=True)]


def as_real(tensor: Tensor) -> Tensor:
    """Return a tensor on the CPU without quantized and complex numbers; the latter have one axis more."""
    tensor = _on_cpu(tensor)
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _on_cpu(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    return tensor.dequantize() if tensor.is_quantized else tensor


def _as_rows(maps: Tensor) -> Tensor:
    """Return ``(B, C, ...)`` maps as a row for each channel, without complex numbers."""
    return as_real(maps.transpose(0, 1)).flatten(1)


def _share_equal(first: Tensor, second: Tensor) -> float:
    one, other = first.detach().cpu(), second.detach().cpu()
    if one.is_quantized or other.is_quantized or one.dtype != other.dtype:
        one, other = as_real(one).double(), as_real(other).double()
    if (bits := _BITS.get(one.dtype)) is not None:
        is_same = one.contiguous().view(bits) == other.contiguous().view(bits)
    else:
        is_same = one == other
    return int(is_same.count_nonzero()) / is_same.numel()


_BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}
