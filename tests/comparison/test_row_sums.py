"""Sums over the channels of two values."""

from __future__ import annotations

import math

import pytest
import torch

from surgery.comparison.row_sums import measure_rows, square_distance


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (70, 1000), (2, 100_000), (300, 1)])
def test_sums_are_those_of_float64_in_one_block_and_in_several(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(shape) + 3, torch.randn(shape)
    one, other = first.double(), second.double()
    sums = measure_rows(first, second)
    assert sums.square_first == pytest.approx(float(one.square().sum()), rel=1e-12)
    assert sums.product == pytest.approx(float((one * other).sum()), rel=1e-9)
    assert sums.square_difference == pytest.approx(float((one - other).square().sum()), rel=1e-12)
    assert sums.sum_difference == pytest.approx(float((one - other).abs().sum()), rel=1e-12)
    assert sums.max_difference == float((one - other).abs().max())
    assert square_distance(first, second) == pytest.approx(sums.square_difference, rel=1e-12)


def test_the_correlation_is_the_mean_of_the_channels_that_are_not_constant() -> None:
    line = torch.linspace(-1, 1, 50)
    first = torch.stack([line + 100, line, torch.full((50,), 0.1), line])
    second = torch.stack([2 * line, -line, line, torch.full((50,), 7.3)])
    assert measure_rows(first, second).correlation == pytest.approx(0.0, abs=1e-9)
    assert measure_rows(first[:1], second[:1]).correlation == pytest.approx(1.0, abs=1e-9)
    assert math.isnan(measure_rows(first[2:], second[2:]).correlation)
