"""The normalizers and tilers that come with the project."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from surgery.builtin.normalizers import Fixed, MinMax, Percentile, Symmetric
from surgery.builtin.tilers import TILERS, Channels, Grid, Strip
from surgery.drawing.palettes import recipe_palette
from surgery.errors import RenderError
from surgery.stages import Recipe
from surgery.types import BACKGROUND
from tests.drawing.examples import make_drawing


@pytest.mark.parametrize("per", ["channel", "layer", "batch"])
def test_limits_are_shared_by_a_layer_or_a_batch_as_requested(per: Any) -> None:
    values = torch.arange(24.0).reshape(2, 3, 2, 2)
    low, high = MinMax(per)(values)
    expected = {"channel": (2, 3), "layer": (2, 1), "batch": (1, 1)}[per]
    assert low.shape[:2] == high.shape[:2] == torch.Size(expected)
    assert low.min() == 0
    assert high.max() == 23
    for normalizer in (Percentile(per=per), Symmetric(per=per)):
        assert normalizer(values)[0].shape[:2] == torch.Size(expected)


def test_symmetric_puts_zero_in_the_middle_and_diverges() -> None:
    values = torch.tensor([[[[-1.0, 0.0, 4.0]]]])
    assert make_drawing(values, normalizer=Symmetric()).levels(0).codes.ravel().tolist() == [94, 125, 250]
    middle = recipe_palette(Recipe(Symmetric(), Grid()))[125].astype(int)
    assert middle.max() - middle.min() < 10


def test_fixed_clamps_values() -> None:
    values = torch.tensor([[[[-1.0, 0.0, 0.5, 1.0, 2.0]]]])
    assert make_drawing(values, normalizer=Fixed(0, 1)).levels(0).codes.ravel().tolist() == [0, 0, 125, 250, 250]


def test_a_percentile_is_as_near_as_its_docstring_says() -> None:
    values = torch.randn(1, 4, 300, 300, generator=torch.Generator().manual_seed(1))
    for percent, allowed in ((1, 0.0093), (50, 0.047)):
        low, _ = Percentile(percent, 99.5)(values)
        share = (values < low).float().mean((2, 3))
        assert (share - percent / 100).abs().max() <= allowed


@pytest.mark.parametrize(
    "make",
    [
        lambda: MinMax("row"),
        lambda: Percentile(99, 1),
        lambda: Fixed(1, 1),
        lambda: Grid(columns=0),
        lambda: Grid(gap=-1),
        lambda: Strip(limit=0),
        lambda: Channels(least=0),
    ],
)
def test_options_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(RenderError):
        make()


def test_a_grid_has_its_golden_pixels() -> None:
    levels = torch.arange(5, dtype=torch.uint8).reshape(1, 5, 1, 1).expand(1, 5, 1, 2)
    tiles = Grid(columns=2, least=1)(levels)[0, 0].tolist()
    empty = BACKGROUND
    assert tiles == [
        [0, 0, empty, 1, 1],
        [empty] * 5,
        [2, 2, empty, 3, 3],
        [empty] * 5,
        [4, 4, empty, empty, empty],
    ]


def test_small_maps_are_enlarged_by_whole_factors_without_smoothing() -> None:
    levels = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    tile = Grid(least=5)(levels)[0, 0]
    assert tile.shape == (6, 6)
    assert torch.equal(tile, levels[0, 0].repeat_interleave(3, 0).repeat_interleave(3, 1))


@pytest.mark.parametrize(("count", "side"), [(64, 128), (512, 1), (100, 30), (7, 30)])
def test_a_grid_is_near_square(count: int, side: int) -> None:
    shape = Grid()(torch.zeros(1, count, side, side, dtype=torch.uint8)).shape
    assert 0.6 <= shape[2] / shape[3] <= 1.7


def test_strip_makes_one_row_and_channels_makes_single_pictures() -> None:
    levels = torch.arange(12, dtype=torch.uint8).reshape(2, 3, 1, 2)
    assert Strip(least=1, gap=0)(levels)[1, 0].tolist() == [[6, 7, 8, 9, 10, 11]]
    assert Channels(least=1)(levels)[1].tolist() == [[[6, 7]], [[8, 9]], [[10, 11]]]
    assert Grid(limit=2, least=1, gap=0, columns=2)(levels)[0, 0].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("name", TILERS)
def test_a_tiler_does_not_write_to_its_input(name: str) -> None:
    levels = torch.randint(0, 250, (2, 5, 3, 3), dtype=torch.uint8)
    before = levels.clone()
    TILERS[name](levels)
    assert torch.equal(levels, before)
