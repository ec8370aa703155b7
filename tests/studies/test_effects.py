from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from surgery.errors import EditError
from surgery.studies.effects import (
    Effect,
    OutputComparison,
    find_image_range,
    main_output,
    mean_effect,
)
from surgery.studies.regions import explain_resizing, fit_region, read_region
from surgery.studies.ssim import StructuralSimilarity, filter_gaussian


def slow_ssim(one: Any, other: Any, value_range: float) -> float:
    """The index of Wang et al. (2004), window by window, with the constants of the paper."""
    weights = np.array(
        [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    )
    weights /= weights.sum()
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    found = []
    for x, y in zip(one, other, strict=True):
        for top in range(x.shape[0] - 10):
            for left in range(x.shape[1] - 10):
                a, b = x[top : top + 11, left : left + 11], y[top : top + 11, left : left + 11]
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                both = (weights * (a - mean_a) * (b - mean_b)).sum()
                up = (2 * mean_a * mean_b + c1) * (2 * both + c2)
                found.append(up / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(found))


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("shape", [(3, 16, 20), (1, 11, 11), (1, 30, 45)])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_structural_similarity_is_that_of_the_paper(shape: tuple[int, ...], share: float) -> None:
    one, noise = image(*shape), image(*shape, seed=1)
    other = (1 - share) * one + share * noise
    expected = slow_ssim(one.double().numpy(), other.double().numpy(), 2.0)
    assert StructuralSimilarity(one, 2.0).compare(other) == pytest.approx(expected, abs=2e-5)
    assert StructuralSimilarity(one.double(), 2.0).compare(other.double()) == pytest.approx(expected, abs=1e-12)


def test_an_image_is_entirely_similar_to_itself_and_less_so_to_its_negative() -> None:
    one = image(3, 20, 20).abs()
    similarity = StructuralSimilarity(one, 1.0)
    assert similarity.compare(one.clone()) == 1.0
    assert -1 <= similarity.compare(1 - one) < -0.5


@pytest.mark.parametrize("size", [(11, 11), (26, 27), (64, 43)])
def test_the_filter_is_a_convolution_with_a_gaussian(size: tuple[int, int]) -> None:
    maps = image(2, *size).double()
    line = torch.exp(-(torch.arange(-5.0, 6.0, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    line /= line.sum()
    expected = torch.nn.functional.conv2d(maps[:, None], (line[:, None] * line)[None, None])[:, 0]
    assert torch.allclose(filter_gaussian(maps), expected, atol=1e-12)


def test_the_numbers_of_an_effect_are_those_of_the_difference() -> None:
    one, other = image(1, 3, 16, 16), image(1, 3, 16, 16, seed=1)
    effect = OutputComparison(one, (-1.0, 1.0)).measure(other)
    difference = (one - other).double()
    assert effect.mean_abs == pytest.approx(float(difference.abs().mean()))
    assert effect.rms == pytest.approx(float(difference.square().mean().sqrt()))
    assert effect.largest == pytest.approx(float(difference.abs().max()))
    assert effect.ssim is not None
    assert effect.inside is effect.outside is None
    assert effect.size == effect.mean_abs


def test_a_heat_map_shows_where_an_output_differs() -> None:
    one = image(1, 2, 8, 9)
    other = one.clone()
    other[0, 1, 3, 4] += 1
    heat = OutputComparison(one, None).heat_map(other)
    assert heat is not None
    assert heat.shape == (8, 9)
    assert heat[3, 4] == pytest.approx(0.5)
    assert int((heat > 0).sum()) == 1
    assert OutputComparison(torch.zeros(1, 10), None).heat_map(torch.ones(1, 10)) is None


def test_the_effect_inside_a_region_is_apart_from_that_outside() -> None:
    one = torch.zeros(1, 3, 12, 12)
    other = one.clone()
    other[..., :6, :] = 0.5
    other[..., 6:, :] = 0.1
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[:6] = True
    effect = OutputComparison(one, None, mask).measure(other)
    assert effect.inside == pytest.approx(0.5)
    assert effect.outside == pytest.approx(0.1)
    assert effect.size == effect.inside
    everywhere = OutputComparison(one, None, torch.ones_like(mask)).measure(other)
    assert everywhere.inside == pytest.approx(everywhere.mean_abs)
    assert everywhere.outside is None


def test_values_that_are_not_finite_are_the_largest_effects() -> None:
    one = torch.zeros(1, 4)
    effect = OutputComparison(one, None).measure(torch.tensor([[0.0, math.nan, 1.0, math.inf]]))
    assert math.isnan(effect.mean_abs)
    assert effect.size == math.inf
    assert math.isnan(mean_effect([effect, Effect(0, 0, 0)]).largest)


def test_effects_of_several_images_are_averaged_and_the_largest_pixel_is_that_of_all() -> None:
    mean = mean_effect([Effect(1.0, 2.0, 3.0, 0.5), Effect(3.0, 4.0, 9.0, 0.7)])
    assert mean == Effect(2.0, 3.0, 9.0, pytest.approx(0.6))  # type: ignore[arg-type]
    assert mean_effect([Effect(1.0, 1.0, 1.0, 0.5), Effect(1.0, 1.0, 1.0)]).ssim == 0.5


def test_what_is_compared_is_the_first_tensor_of_floats() -> None:
    labels, logits = torch.zeros(1, dtype=torch.long), torch.zeros(1, 5)
    found = main_output({"labels": labels, "more": [logits, torch.ones(1)]})
    assert found is not None
    assert found[0] == "[more][0]"
    assert found[1] is logits
    assert main_output((labels,)) == ("[0]", labels)
    assert main_output({"none": None}) is None


def test_an_output_is_an_image_if_its_values_and_its_size_are_those_of_one() -> None:
    size, limits = (16, 16), (-1.0, 1.0)
    assert find_image_range(image(1, 3, 16, 16), limits, size) == limits
    assert find_image_range(image(1, 1, 32, 32), limits, size) == limits
    assert find_image_range(image(1, 3, 8, 8), limits, size) is None
    assert find_image_range(image(1, 4, 16, 16), limits, size) is None
    assert find_image_range(image(1, 3, 16, 16) * 2, limits, size) is None
    assert find_image_range(torch.zeros(1, 10), limits, size) is None


def test_a_region_of_another_size_is_told() -> None:
    assert explain_resizing(torch.ones(4, 6), torch.zeros(3, 8, 6)) == [
        "the region of 4x6 is resized to the output of 8x6"
    ]
    assert explain_resizing(torch.ones(8, 6), torch.zeros(3, 8, 6)) == explain_resizing(None, torch.zeros(3)) == []


def test_a_region_of_another_size_is_resized() -> None:
    shares = read_region(np.eye(2))
    assert shares is not None
    region = fit_region(shares, torch.zeros(1, 3, 8, 8))
    assert region.dtype is torch.bool
    assert bool(region[:4, :4].all())
    assert not bool(region[:4, 4:].any())
    assert fit_region(torch.ones(512, 512), torch.zeros(1, 3, 8, 8)).all()


@pytest.mark.parametrize(
    ("within", "message"),
    [
        (np.zeros((4, 4)), "the mask marks nothing: no value is a half or more"),
        (np.full((4, 4), 3.0), r"a mask is \(H, W\) with values from 0 to 1, not \(4, 4\)"),
        (np.zeros(4), r"a mask is \(H, W\) with values from 0 to 1, not \(4,\)"),
        ({"a": 1}, r"a mask is a file or an array \(H, W\), not dict"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_a_region_that_can_not_be_read_is_one_line(within: Any, message: str) -> None:
    with pytest.raises(EditError, match=message):
        read_region(within)


def test_a_region_that_does_not_fit_the_output_is_one_line() -> None:
    with pytest.raises(EditError, match=r"needs an output of maps \(1, C, H, W\), not \(1, 10\)"):
        fit_region(torch.ones(4, 4), torch.zeros(1, 10))
    point = torch.zeros(100, 100)
    point[50, 50] = 1
    with pytest.raises(EditError, match="the region of 100x100 marks no pixel of an output of 4x4; mark a larger one"):
        fit_region(point, torch.zeros(1, 3, 4, 4))
