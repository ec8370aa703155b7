"""The measures that come with the project, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from surgery.builtin.channel_measures import ModeGap, Outliers, Rank, Saturated
from surgery.builtin.measures import MEASURES
from surgery.builtin.pattern_measures import Aliasing, Checkerboard, Grid, Overlap
from surgery.drawing import fit_measure
from surgery.errors import MeasureError
from surgery.plugins import Plugins
from surgery.stages import Measure, MeasuredOperation
from surgery.types import Operation


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pattern(tile: list[list[float]], size: int = 32) -> Tensor:
    """A tile repeated over one map ``(1, 1, size, size)``."""
    values = torch.tensor(tile)
    return values.repeat(size // len(tile), size // len(tile[0]))[None, None]


def of(name: str, maps: Tensor) -> list[float]:
    numbers: list[float] = MEASURES[name](maps)[0].tolist()
    return numbers


def fitted(measure: Measure, kind: str, module: nn.Module | None = None, upsampling: int | None = None) -> Measure:
    found = fit_measure("it", measure, MeasuredOperation(Operation("up", "up", kind, 1), module, upsampling))
    assert found is not None
    return found


def test_the_names_are_those_that_are_listed_and_their_options_are_read() -> None:
    found = Plugins(bare=True)
    assert found.names("measure") == [*MEASURES]
    assert found.resolve("measure", "checkerboard:stride=4") == Checkerboard(4)
    assert found.resolve("measure", "saturated:low=none,high=6") == Saturated(None, 6.0)


def test_each_says_what_its_numbers_are_and_cites_its_source() -> None:
    for measure in MEASURES.values():
        assert measure.unit  # type: ignore[attr-defined]
        assert measure.reading  # type: ignore[attr-defined]
        documented = type(measure).__doc__ or ""
        assert any(mark in documented for mark in ("19", "20", "IEEE")), type(measure)


def test_a_channel_of_zeros_is_dead_and_one_of_another_value_is_constant() -> None:
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 3.0), torch.eye(4)])[None]
    assert of("dead", maps) == [1, 0, 0]
    assert of("constant", maps) == [1, 1, 0]
    assert of("sparsity", maps) == [1, 0, 0.75]
    assert of("dead", torch.full((1, 1, 4, 4), math.nan)) == of("constant", torch.full((1, 1, 4, 4), math.nan)) == [0]


def test_one_value_is_no_constant_channel() -> None:
    assert math.isnan(of("constant", torch.ones(1, 1, 1, 1))[0])


def test_values_that_are_not_finite_are_counted() -> None:
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 1, 0] = torch.tensor([math.nan, math.inf])
    assert of("not-finite", maps) == [0, 0.5]


def test_saturated_values_are_those_at_the_ends_of_the_operation() -> None:
    maps = torch.tensor([-1.0, -0.985, -0.5, 0.0, 0.009, 0.5, 0.995, 1.0])[None, None, None]
    assert fitted(Saturated(), "tanh")(maps).item() == 4 / 8
    assert fitted(Saturated(), "sigmoid")(maps).item() == 7 / 8
    assert fitted(Saturated(), "relu6")(6 * maps).item() == 2 / 8
    assert fitted(Saturated(), "hardtanh", nn.Hardtanh(0.0, 0.5))(maps).item() == 7 / 8
    assert fit_measure("it", Saturated(), MeasuredOperation(Operation("up", "up", "relu", 1))) is None


def test_a_pure_checkerboard_is_all_of_the_variance() -> None:
    assert of("checkerboard", pattern([[1.0, -1.0], [-1.0, 1.0]])) == [1]
    assert of("checkerboard", 1e3 + pattern([[3.0, 5.0], [7.0, 11.0]])) == [1]
    assert Checkerboard(4)(pattern([[float(row * 4 + column) ** 2 for column in range(4)] for row in range(4)])) == 1
    assert Checkerboard(2)(pattern([[0.0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]])).item() == 0


def test_white_noise_has_the_share_of_a_checkerboard_that_chance_gives_it() -> None:
    shares = Checkerboard(2)(noise(1, 4000, 16, 16))
    assert shares.mean().item() == pytest.approx(3 / 255, rel=0.05)


def test_a_checkerboard_of_the_third_of_the_variance_is_found_in_noise() -> None:
    maps = noise(1, 64, 64, 64) * math.sqrt(2) + pattern([[1.0, -1.0], [-1.0, 1.0]], 64)
    assert Checkerboard(2)(maps).mean().item() == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("name", ["checkerboard", "grid", "aliasing"])
def test_a_constant_channel_has_no_pattern_and_one_that_is_not_finite_no_number(name: str) -> None:
    maps = torch.stack([torch.full((16, 16), value) for value in (0.0, 0.1, 1e30, math.nan, math.inf)])[None]
    numbers = of(name, maps)
    assert numbers[:3] == [0, 0, 0]
    assert all(map(math.isnan, numbers[3:]))


def test_a_map_of_fewer_than_four_periods_has_no_checkerboard() -> None:
    assert torch.isnan(Checkerboard(2)(noise(1, 1, 7, 64))).all()
    assert not torch.isnan(Checkerboard(2)(noise(1, 1, 8, 9))).any()
    with pytest.raises(MeasureError, match="the stride of a checkerboard is at least 2, not 1"):
        Checkerboard(1)


def test_the_period_of_a_checkerboard_is_the_stride_of_the_last_upsampling() -> None:
    assert fitted(Checkerboard(), "conv2d", None, 4) == Checkerboard(4)
    assert fitted(Checkerboard(3), "conv2d") == Checkerboard(3)


def test_the_checkerboard_that_weights_predict_is_the_one_that_constant_maps_get() -> None:
    module = nn.ConvTranspose2d(1, 5, 3, stride=2, padding=1, output_padding=1, bias=False)
    predicted = fitted(Overlap(), "convtranspose2d", module)(torch.zeros(1, 5, 8, 8))
    output = module(torch.ones(1, 1, 16, 16)).detach()[:, :, 2:-2, 2:-2].double()
    measured = output.var((2, 3), correction=0) / output.square().mean((2, 3))
    assert torch.allclose(predicted, measured, rtol=1e-5)


def test_a_kernel_of_equal_sums_predicts_no_checkerboard() -> None:
    module = nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1, groups=2)
    torch.nn.init.ones_(module.weight)
    assert fitted(Overlap(), "convtranspose2d", module)(torch.zeros(2, 6, 8, 8)).tolist() == [[0.0] * 6] * 2
    with torch.no_grad():
        module.weight[0, 0, 0, 0] = 5.0  # the first output channel, and one of its four phases
    shares = fitted(Overlap(), "convtranspose2d", module)(torch.zeros(1, 6, 8, 8))[0]
    sums = torch.tensor([[8.0, 4, 4, 4], [4, 4, 4, 4]], dtype=torch.float64)
    assert shares[0].item() == pytest.approx((sums.var(1, correction=0).sum() / sums.square().mean(1).sum()).item())
    assert not shares[1:].any()
    assert torch.isnan(Overlap()(torch.zeros(1, 2, 8, 8))).all()


def test_the_grid_is_all_of_a_checkerboard_of_pixels_and_a_quarter_of_noise() -> None:
    assert of("grid", pattern([[1.0, -1.0], [-1.0, 1.0]])) == [1]
    assert of("grid", pattern([[1.0, -1.0]])) == [0]  # stripes
    assert Grid()(noise(1, 400, 32, 32)).mean().item() == pytest.approx(0.25, abs=0.005)


def test_aliasing_is_the_energy_above_half_of_the_band() -> None:
    assert of("aliasing", pattern([[1.0, -1.0]])) == pytest.approx([1])
    assert of("aliasing", pattern([[1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0]])) == pytest.approx([0.1464], abs=1e-3)
    line = torch.arange(64.0)
    for period, expected in ((16, 0.0), (3.2, 1.0)):
        assert of("aliasing", (2 * math.pi * line / period).sin().expand(1, 1, 64, 64)) == pytest.approx([expected])
    assert Aliasing()(noise(1, 100, 64, 63)).mean().item() == pytest.approx(0.75, abs=0.02)


def test_an_outlier_is_as_many_times_the_99_9th_percentile() -> None:
    maps = noise(1, 2, 100, 100).clamp(-1, 1)
    maps[0, 1, 50, 50] = 50.0
    expected = (maps[0].flatten(1) - maps[0].flatten(1).mean(1, keepdim=True)).abs().double()
    assert of("outliers", maps) == pytest.approx((expected.amax(1) / expected.quantile(0.999, 1)).tolist(), rel=1e-6)
    assert of("outliers", maps)[1] > 40
    assert torch.isnan(Outliers()(noise(1, 1, 30, 30))).all()
    assert torch.isnan(Outliers()(torch.ones(1, 1, 40, 40))).all()


@pytest.mark.parametrize(("channels", "size"), [(6, 12), (40, 5)])
def test_the_effective_rank_is_the_number_of_independent_maps_of_equal_size(channels: int, size: int) -> None:
    basis, _ = torch.linalg.qr(noise(size * size, 5).double() - noise(size * size, 5).double().mean(0))
    basis = basis - basis.mean(0)
    basis, _ = torch.linalg.qr(basis)
    for rank in (1, 3, 5):
        mixing = torch.linalg.qr(noise(channels, rank).double())[0]
        maps = (mixing @ basis[:, :rank].T).unflatten(1, (size, size))[None] + 7
        assert Rank()(maps).item() == pytest.approx(rank, rel=1e-4)
    assert torch.isnan(Rank()(torch.full((1, 3, 4, 4), math.nan))).all()
    assert torch.isnan(Rank()(torch.ones(1, 3, 4, 4))).all()


def test_the_mode_gap_is_the_distance_of_a_mean_from_the_running_mean() -> None:
    norm = nn.BatchNorm2d(3).eval()
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 1.0, 9.0])
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    before = noise(2, 3, 8, 8) + 5
    gaps = fitted(ModeGap(), "batchnorm2d", norm)(norm(before).detach())
    expected = (before.mean((2, 3)) - norm.running_mean) / norm.running_var.sqrt()
    assert torch.allclose(gaps, expected.double(), atol=1e-4)
    with torch.no_grad():
        norm.weight[0] = 0
    assert fitted(ModeGap(), "batchnorm2d", norm)(norm(before).detach())[:, 0].isnan().all()
    for module in (norm.train(), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()):
        assert fit_measure("it", ModeGap(), MeasuredOperation(Operation("n", "n", "norm", 1), module)) is None
