"""Numbers that are gathered image by image are those of all images at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from surgery.diagnosis.channel_numbers import Equivariance, MeanNumbers, Noise, OperationNumbers, Similarity
from surgery.diagnosis.thresholds import THRESHOLDS, merge_thresholds, reduce_numbers
from surgery.types import Operation


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_mean_leaves_out_what_has_no_number() -> None:
    means = MeanNumbers()
    for numbers in ([1.0, math.nan, math.nan], [3.0, 5.0, math.nan]):
        means.add(np.array(numbers))
    means.add(np.zeros(2))  # of another number of channels, as after another input
    assert means.numbers()[:2].tolist() == [2, 5]
    assert math.isnan(means.numbers()[2])


def test_the_similarity_of_many_images_is_the_mean_of_all_pairs() -> None:
    images = normal(5, 3, 6, 7)
    images[:, 1] = images[0, 1] * torch.arange(1.0, 6)[:, None, None] - 4  # the same but for scale and offset
    images[:, 2] = 7
    similarity = Similarity()
    for image in images:
        similarity.add(image)
    numbers = similarity.numbers()
    assert numbers is not None
    correlations = np.corrcoef(images[:, 0].flatten(1).double().numpy())
    assert numbers[0] == pytest.approx(correlations[np.triu_indices(5, 1)].mean(), abs=1e-5)
    assert numbers[1] == pytest.approx(1, abs=1e-5)
    assert math.isnan(numbers[2])


def test_maps_of_other_sizes_and_of_few_positions_are_not_compared() -> None:
    similarity = Similarity()
    for maps in (normal(2, 3, 3), normal(2, 8, 8), normal(2, 9, 8)):
        similarity.add(maps)
    assert similarity.images == 1
    assert similarity.numbers() is None


def test_the_noise_of_two_runs_is_its_share_of_the_variance() -> None:
    noise = Noise()
    signal = normal(2, 200, 200) + 3
    one, other = (signal + normal(2, 200, 200, seed=seed) / math.sqrt(3) for seed in (1, 2))
    one[1] = other[1] = signal[1]
    noise.add(one, other)
    shares, whole = noise.numbers()
    assert shares.tolist() == pytest.approx([0.25, 0], abs=0.01)
    assert whole == pytest.approx(1 / 3 / (1 / 3 + 2), abs=0.01)
    assert math.isnan(Noise().numbers()[1])


def test_equivariance_is_the_signal_to_noise_ratio_of_a_shift() -> None:
    maps = normal(2, 32, 32).clamp(-1, 1)
    exact, noisy = Equivariance(), Equivariance()
    moved = maps.roll((4, 2), (1, 2))
    exact.add(maps, moved, (4, 2))
    assert exact.numbers()[1] == math.inf
    moved[1] += 0.02
    noisy.add(maps, moved, (4, 2))
    channels, whole = noisy.numbers()
    assert channels.tolist() == pytest.approx([math.inf, 10 * math.log10(4 / 0.02**2)], rel=1e-4)
    assert whole == pytest.approx(10 * math.log10(2 * 4 / 0.02**2), rel=1e-4)
    exact.add(torch.zeros(2, 32, 32), maps, (4, 2))
    assert exact.numbers()[1] == math.inf
    assert math.isnan(Equivariance().numbers()[1])


def test_the_drift_is_the_largest_over_the_smallest_range() -> None:
    numbers = OperationNumbers(Operation("a", "a", "add", 1))
    numbers.add(torch.linspace(0, 1, 16).reshape(1, 4, 4), with_similarity=False)
    assert math.isnan(numbers.drift)
    numbers.add(torch.linspace(-4, 4, 16).reshape(1, 4, 4), with_similarity=False)
    assert numbers.drift == 8
    numbers.add(torch.full((1, 4, 4), math.inf), with_similarity=False)
    assert math.isnan(numbers.drift)


@pytest.mark.parametrize(
    ("measure", "numbers", "expected"),
    [
        ("dead", [1, 1, 0.5, math.nan], (0.5, "always", 0)),
        ("sparsity", [0.25, 0.75, math.nan], (0.5, "mean", 1)),
        ("mode-gap", [3, -4, math.nan], (math.sqrt(12.5), "rms", 1)),
        ("checkerboard:stride=4", [0.25, 0.75, math.nan], (0.75, "largest", 1)),
        ("of-the-user", [0.25, -0.75], (-0.75, "largest", 1)),
        ("rank", [7.5], (7.5, "whole", None)),
    ],
)
def test_the_numbers_of_channels_become_one(
    measure: str, numbers: list[float], expected: tuple[float, str, int | None]
) -> None:
    number, reduction, channel = reduce_numbers(measure, np.array(numbers))
    assert number == pytest.approx(expected[0])
    assert (reduction, channel) == expected[1:]


def test_no_numbers_become_none() -> None:
    number, _, channel = reduce_numbers("grid", np.array([math.nan, math.nan]))
    assert math.isnan(number)
    assert channel is None


def test_thresholds_are_those_of_the_measures_that_are_taken() -> None:
    merged = merge_thresholds({"dead": None, "rank": 3}, ["dead", "rank", "checkerboard:stride=4", "grid"])
    assert merged == {"rank": 3.0, "checkerboard:stride=4": THRESHOLDS["checkerboard"]}
