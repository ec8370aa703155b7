"""Values to codes, and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import surgery
from surgery.builtin.normalizers import NORMALIZERS, Fixed
from surgery.output.json_values import as_json, picture_limits
from surgery.types import MINUS_INF, NAN, PLUS_INF
from tests.drawing.examples import make_drawing


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6, 1e-30])
@pytest.mark.parametrize("scale", [1e-38, 1e-6, 1.0, 1e5, 1e37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_levels_equal_a_slow_reference_and_read_back(offset: float, scale: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(int(abs(offset)) % 1000)
    values = (torch.randn(2, 3, 7, 5, generator=generator, dtype=torch.float64) * scale + offset).to(dtype)
    if not values.isfinite().all():
        pytest.skip("does not fit the dtype")
    for position in range(2):
        levels = make_drawing(values).levels(position)
        for channel in range(3):
            exact = values[position, channel].double().numpy()
            low, high = exact.min(), exact.max()
            assert (levels.low[channel], levels.high[channel]) == (low, high)
            if low == high:
                assert (levels.codes[channel] == 125).all()
                continue
            reference = np.floor((exact - low) / (high - low) * 250 + 0.5)
            assert np.abs(levels.codes[channel].astype(float) - reference).max() <= 1
            back = low + levels.codes[channel] / 250 * (high - low)
            assert np.abs(back - exact).max() <= (high - low) / 500 * 1.001


def test_limits_at_the_ends_of_float32_do_not_overflow() -> None:
    most = torch.finfo(torch.float32).max
    values = torch.tensor([[[[-most, 0.0, most]]]])
    assert make_drawing(values).levels(0).codes.ravel().tolist() == [0, 125, 250]
    tiny = torch.tensor([[[[0.0, 1e-45, 2.8e-45]]]])
    assert make_drawing(tiny).levels(0).codes.ravel().tolist() == [0, 125, 250]


@pytest.mark.parametrize(
    ("low", "high", "code"), [(-1.7e308, 1.7e308, 125), (1e300, 2e300, 0), (-3e38, 3e38, 125), (-1.0, 5e-324, 250)]
)
def test_fixed_limits_may_be_any_float64_values(low: float, high: float, code: int) -> None:
    picture = surgery.draw(torch.ones(1, 1, 16, 16), normalizer=Fixed(low, high))[0]
    assert (picture.pixels == code).all()
    assert [*picture.low, *picture.high] == [low, high]
    limits = json.loads(as_json(dict(picture_limits(picture))))
    assert (limits["low"], limits["high"]) == ([low], [high])


@pytest.mark.parametrize("channels", [4, 10, 70])
def test_channels_last_memory_is_drawn_like_contiguous_memory(channels: int) -> None:
    maps = torch.randn(3, channels, 128, 128)  # four of them are worked on at once
    lying = maps.contiguous(memory_format=torch.channels_last)
    for one, other in zip(surgery.draw(maps), surgery.draw(lying), strict=True):
        assert np.array_equal(one.pixels, other.pixels)


def test_constant_maps_and_single_values_are_drawn_mid_scale() -> None:
    assert (make_drawing(torch.full((1, 2, 3, 3), 7.0)).levels(0).codes == 125).all()
    assert (make_drawing(torch.tensor([[[[4.0]]]])).levels(0).codes == 125).all()


def test_one_nan_does_not_blank_a_picture() -> None:
    values = torch.arange(9.0).reshape(1, 1, 3, 3)
    values[0, 0, 1, 1] = torch.nan
    values[0, 0, 0, 0] = -torch.inf
    values[0, 0, 2, 2] = torch.inf
    one = make_drawing(values)
    codes = one.levels(0).codes[0]
    assert (codes[1, 1], codes[0, 0], codes[2, 2]) == (NAN, MINUS_INF, PLUS_INF)
    assert (codes[0, 1], codes[2, 1]) == (0, 250)
    facts = one.facts(0)
    assert (facts.min, facts.max, facts.nan, facts.inf) == (1.0, 7.0, True, True)


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_channel_without_any_finite_value_is_drawn(name: str) -> None:
    values = torch.full((1, 2, 2, 2), torch.nan)
    values[0, 1] = torch.inf
    one = make_drawing(values, normalizer=NORMALIZERS[name])
    assert one.levels(0).codes[:, 0, 0].tolist() == [NAN, PLUS_INF]
    assert one.facts(0).min is None


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float16])
def test_any_dtype_is_drawn(dtype: torch.dtype) -> None:
    values = torch.tensor([[[[0, 1], [1, 0]]]]).to(dtype)
    assert make_drawing(values).levels(0).codes.ravel().tolist() == [0, 250, 250, 0]


def test_sparse_values_are_drawn() -> None:
    assert make_drawing(torch.eye(3)[None, None].to_sparse()).levels(0).codes[0].tolist() == (np.eye(3) * 250).tolist()
