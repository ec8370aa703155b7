from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from surgery.builtin import Periodic
from surgery.drawing import fit_measure
from surgery.errors import MeasureError
from surgery.stages import MeasuredOperation
from surgery.types import Operation

SIZE = 128
ROWS = torch.arange(float(SIZE))[:, None].expand(SIZE, SIZE)
COLUMNS = ROWS.T


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def share(values: Tensor, period: int | None = None) -> float:
    """The number of one map ``(H, W)``."""
    return Periodic(period)(values[None, None]).item()


def board(period: int = 2) -> Tensor:
    """Squares of half a period, -1 and 1."""
    return ((ROWS // (period // 2) + COLUMNS // (period // 2)) % 2) * 2 - 1


SMOOTH: dict[str, Tensor] = {
    "a ramp": 3 * ROWS - COLUMNS,
    "waves of long periods": torch.sin(ROWS / 9) + torch.cos(COLUMNS / 13 + ROWS / 30),
    "a horizontal edge": (ROWS > 63).float(),
    "a vertical edge": (COLUMNS >= 63).float(),
    "a diagonal edge": (ROWS + COLUMNS > 120).float(),
    "a disk": ((ROWS - 60).square() + (COLUMNS - 70).square() < 1000).float(),
    "lines of one pixel": ((ROWS == 40) | (COLUMNS == 77)).float(),
    "one pixel": ((ROWS == 40) & (COLUMNS == 77)).float(),
}


@pytest.mark.parametrize("period", [2, 4, 8])
@pytest.mark.parametrize("name", SMOOTH)
def test_what_is_smooth_and_what_has_edges_has_almost_none(name: str, period: int) -> None:
    assert share(SMOOTH[name], period) < 2e-3


PATTERNS: dict[str, Tensor] = {
    "squares": board(),
    "rows": torch.cos(torch.pi * ROWS),
    "columns": torch.cos(torch.pi * COLUMNS),
    "one pixel of four": (ROWS % 2) * (COLUMNS % 2),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_of_two_positions_is_all_of_the_variance(name: str) -> None:
    assert share(PATTERNS[name]) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("amplitude", [0.03, 0.3, 1.0, 3.0])
def test_the_share_is_that_of_the_amplitude(amplitude: float) -> None:
    wave = torch.sin(ROWS * torch.pi / 4)  # two periods in a block, with a variance of a half
    expected = amplitude**2 / (amplitude**2 + 0.5)
    assert share(wave + amplitude * board()) == pytest.approx(expected, rel=1e-3)


def test_a_pattern_of_changing_strength_counts() -> None:
    slow = 1 + torch.sin(ROWS / 12) * torch.cos(COLUMNS / 15)
    assert share(slow * board()) > 0.9
    assert share(torch.sin(COLUMNS / 10) * board()) > 0.9


@pytest.mark.parametrize(("size", "most"), [(16, 0.05), (64, 0.01), (256, 0.003)])
def test_white_noise_has_almost_none(size: int, most: float) -> None:
    assert 0 < Periodic(2)(noise(1, 12, size, size)).mean().item() < most


@pytest.mark.parametrize("texture", [3, 3.3, 5, 6.4, 8, 16])
def test_textures_of_other_periods_have_almost_none(texture: float) -> None:
    stripes = torch.sin(COLUMNS * 2 * torch.pi / texture)
    assert share(stripes) < 1e-3
    assert share(stripes * torch.sin(ROWS * 2 * torch.pi / texture)) < 1e-3


@pytest.mark.parametrize("own", [2, 4, 8])
def test_a_pattern_has_the_shares_of_its_period_and_of_the_shorter_ones(own: int) -> None:
    pattern = noise(own, own).repeat(SIZE // own, SIZE // own)
    shares = {period: share(pattern, period) for period in (2, 4, 8)}
    assert 0.95 < sum(shares[period] for period in shares if period <= own) < 1 + 1e-9
    assert shares[own] > 0.5
    assert all(shares[period] < 1e-9 for period in shares if period > own)


def test_squares_of_two_pixels_have_a_period_of_four() -> None:
    assert share(board(4), 4) == pytest.approx(1, abs=1e-9)
    assert share(board(4), 2) < 1e-9


def test_three_is_a_period_too() -> None:
    pattern = noise(3, 3).repeat(32, 32)
    assert share(pattern, 3) == pytest.approx(1, abs=1e-9)
    assert share(pattern, 2) < 1e-9


def test_transposed_convolutions_make_it_of_a_constant_and_resizes_do_not() -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, 4, 1, 1).expand(1, 4, 20, 20)
    with torch.no_grad():
        transposed = nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1)(maps)[..., 2:-2, 2:-2]
        resized = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 8, 3, padding=1))(maps)[..., 2:-2, 2:-2]
    assert Periodic()(transposed)[0].tolist() == pytest.approx([1.0] * 8, abs=1e-6)
    assert Periodic()(resized).tolist() == [[0.0] * 8]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_neither_scale_nor_offset_nor_dtype_changes_it(dtype: torch.dtype) -> None:
    maps = (noise(2, 3, 32, 48) * 8).round() + board()[:32, :48]
    expected = Periodic()(maps)
    assert expected.shape == (2, 3)
    assert expected.dtype == torch.float64
    assert torch.allclose(Periodic()((maps / 4 - 8).to(dtype)), expected, atol=1e-12)
    assert torch.allclose(Periodic()((maps * 2.0**90).to(dtype)), expected, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e20])
def test_a_constant_map_has_none_whatever_its_rounding(value: float) -> None:
    maps = torch.full((32, 37), value)
    assert share(maps) == 0
    assert share(maps * (1 + 1e-7 * board()[:32, :37])) == 0
    maps[:, -1] = 5  # behind the last block
    assert share(maps) == 0


def test_each_map_is_measured_alone_and_one_that_is_not_finite_has_no_number() -> None:
    maps = torch.stack([noise(32, 32), noise(32, 32, seed=1), board()[:32, :32].double()])[None]
    expected = Periodic()(maps)[0]
    for value in (torch.inf, torch.nan):
        maps[0, 1, 5, 5] = value
        shares = Periodic()(maps)[0]
        assert shares.isnan().tolist() == [False, True, False]
        assert torch.equal(shares[::2], expected[::2])


def test_a_map_of_fewer_than_eight_periods_has_no_number() -> None:
    assert Periodic(2)(noise(2, 3, 16, 15)).isnan().tolist() == [[True] * 3] * 2
    assert not Periodic(2)(noise(2, 3, 16, 17)).isnan().any()
    assert Periodic(4)(noise(2, 3, 31, 64)).isnan().all()
    with pytest.raises(MeasureError, match="the period of a pattern is at least 2, not 1"):
        Periodic(1)


def test_the_period_is_the_stride_of_the_last_upsampling_unless_one_is_asked_for() -> None:
    operation = Operation("up", "up", "conv2d", 1)
    for own, upsampling, fitted in [(None, 4, 4), (None, None, None), (8, 4, 8)]:
        assert fit_measure("it", Periodic(own), MeasuredOperation(operation, None, upsampling)) == Periodic(fitted)
    assert share(board()) == share(board(), 2)
