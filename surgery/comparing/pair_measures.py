"""How far a value is from its counterpart in another run, in numbers that are exact for each image."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

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
    if bitwise_equal(first, second):
        correlation = _mean_correlation(channels(first).double(), channels(second).double()) if first.numel() else 1.0
        return PairMeasures(0.0, 0.0, 0.0, math.inf, 1.0, 1.0, correlation)
    equal = _share_equal(first, second)
    one, other = _as_double(first), _as_double(second)
    is_same = (one == other) | (one.isnan() & other.isnan())  # infinities too
    difference = torch.where(is_same, 0.0, one - other).abs_().nan_to_num_(math.inf, math.inf)
    one, other = (torch.where(each.isfinite(), each, 0.0) for each in (one, other))
    norm, other_norm = float(one.norm()), float(other.norm())
    difference_norm = float(difference.norm())
    relative = difference_norm / norm if norm else (math.inf if difference_norm else 0.0)
    product = norm * other_norm
    return PairMeasures(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        relative=relative,
        snr=decibels(relative),
        cosine=float((one * other).sum()) / product if product else float(norm == other_norm),
        equal=equal,
        correlation=_mean_correlation(channels(one), channels(other)),
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
            return f"{tuple(one.shape)} against {tuple(other.shape)}{f' in {key}' if key else ''}"
    return [(key, one, other) for (key, one), (_, other) in zip(ones, others, strict=True)]


def _as_double(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return torch.view_as_real(tensor).double() if tensor.is_complex() else tensor.double()


def _share_equal(first: Tensor, second: Tensor) -> float:
    if not first.numel():
        return 1.0
    one, other = first.detach().cpu(), second.detach().cpu()
    if one.is_quantized or other.is_quantized or one.dtype != other.dtype:
        one, other = _as_double(one), _as_double(other)
    is_same = one == other
    if one.is_floating_point():
        is_same = (is_same & (one.signbit() == other.signbit())) | (one.isnan() & other.isnan())
    return float(is_same.double().mean())


def _mean_correlation(one: Tensor, other: Tensor) -> float:
    """Return the mean correlation of the channels of ``(B, C, ...)`` maps; NaN if all are constant."""
    ones, others = (maps.transpose(0, 1).flatten(1) for maps in (one, other))
    ones, others = (maps - maps.mean(1, keepdim=True) for maps in (ones, others))
    norms = ones.norm(dim=1) * others.norm(dim=1)
    varies = norms > 0
    if not bool(varies.any()):
        return math.nan
    return float(((ones * others).sum(1)[varies] / norms[varies]).mean().clamp(-1, 1))
