"""Sums over the channels of two values, in float64, in blocks that stay in the processor's cache."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_BLOCK = 1 << 16
"""Elements of a block, at least: a row is not split."""
_CONSTANT = 1e-13
"""The share of a channel's mean square below which its variance is the rounding of the sums."""


@dataclass(slots=True)
class PairSums:
    """Sums over all elements of two values."""

    square_first: float = 0.0
    square_second: float = 0.0
    product: float = 0.0
    square_difference: float = 0.0
    sum_difference: float = 0.0
    """Of absolute differences."""
    max_difference: float = 0.0
    correlation: float = math.nan
    """The mean correlation of the channels that are constant in neither; NaN if there is none."""


def measure_rows(first: Tensor, second: Tensor) -> PairSums:
    """Return the sums of two values with a row for each channel, ``(C, N)``. Not finite if a value is not."""
    sums = PairSums()
    correlations: list[Tensor] = []
    count = first.shape[1]
    for one, other in _blocks(first, second):
        squares, other_squares, products = _dots(one, one), _dots(other, other), _dots(one, other)
        totals, other_totals = one.sum(1), other.sum(1)
        variance, other_variance = squares - totals.square() / count, other_squares - other_totals.square() / count
        varies = (variance > _CONSTANT * squares) & (other_variance > _CONSTANT * other_squares)
        covariance = products - totals * other_totals / count
        correlations.append((covariance / (variance * other_variance).sqrt())[varies].clamp(-1, 1))
        difference = one.sub_(other)
        sums.square_first += float(squares.sum())
        sums.square_second += float(other_squares.sum())
        sums.product += float(products.sum())
        flat = difference.view(-1)
        sums.square_difference += float(flat.dot(flat))
        flat = flat.abs_()
        sums.sum_difference += float(flat.sum())
        sums.max_difference = max(sums.max_difference, float(flat.max()))
    known = torch.cat(correlations)
    sums.correlation = float(known.mean()) if known.numel() else math.nan
    return sums


def square_distance(first: Tensor, second: Tensor) -> float:
    """Return the sum of squared differences of two tensors of the same shape, without complex numbers."""
    total = 0.0
    rows = first.shape[0] if first.ndim else 1
    for one, other in _blocks(first.reshape(rows, -1), second.reshape(rows, -1)):
        flat = one.sub_(other).view(-1)
        total += float(flat.dot(flat))
    return total


def ratio(distance: float, norm: float) -> float:
    """Return a distance as a share of a norm: infinite if that is zero and the distance is not."""
    return distance / norm if norm else (math.inf if distance else 0.0)


def _blocks(first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield copies of the rows of two tensors as float64, several rows at a time."""
    step = max(1, _BLOCK // max(1, first.shape[1]))
    for start in range(0, len(first), step):
        yield tuple(  # type: ignore[misc]
            each[start : start + step].to(torch.float64, copy=True, memory_format=torch.contiguous_format)
            for each in (first, second)
        )


def _dots(one: Tensor, other: Tensor) -> Tensor:
    """Return the dot product of each pair of rows."""
    return (one * other).sum(1)  # a third of the time of a product of matrices
