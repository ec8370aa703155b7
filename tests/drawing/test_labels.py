"""Labels in grids, and the background color."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import surgery
from surgery.builtin.normalizers import Fixed, MinMax
from surgery.builtin.tilers import Grid
from surgery.drawing import LABEL_HEIGHT
from surgery.drawing.labels import BAR_HEIGHT
from surgery.drawing.palettes import MIN_DIFFERENCE, choose_background, make_palette
from surgery.plugins.registry import Plugins
from surgery.types import BACKGROUND, INK, LEVELS

VALUES = torch.randn(1, 5, 40, 50, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name", ["viridis", "magma", "gray", "gray_r", "bone", "inferno", "cividis", "turbo", "binary", "twilight"]
)
def test_the_background_differs_from_all_colors_of_a_colormap(name: str) -> None:
    from surgery.drawing.palettes import _to_lab

    colors = make_palette(name)
    distance = np.linalg.norm(_to_lab(colors[BACKGROUND][None]) - _to_lab(colors[:LEVELS]), axis=1)
    assert distance.min() >= MIN_DIFFERENCE
    assert tuple(colors[BACKGROUND]) == choose_background(colors[:LEVELS])


@pytest.mark.parametrize("colors", [["black", "white"], ["#202126", "red"], [(0.125, 0.13, 0.15), (0.3, 0.3, 0.3)]])
def test_the_background_differs_from_the_colors_of_a_list(colors: list[object]) -> None:
    assert tuple(make_palette(colors)[BACKGROUND]) != (32, 33, 38)
    assert tuple(make_palette(["#440154", "#fde725"])[BACKGROUND]) == (32, 33, 38)


def test_labels_are_above_the_maps_and_change_no_code_of_a_map() -> None:
    (plain,) = surgery.draw(VALUES, tiler=Grid(columns=2, gap=3))
    (marked,) = surgery.draw(VALUES, tiler=Grid(columns=2, gap=3, labels=True))
    tall = 40 + LABEL_HEIGHT + 3
    for number in range(5):
        row, column = divmod(number, 2)
        top, left = row * tall, column * 53
        own = marked.pixels[top + LABEL_HEIGHT : top + LABEL_HEIGHT + 40, left : left + 50]
        assert np.array_equal(own, plain.pixels[row * 43 : row * 43 + 40, left : left + 50])
        label = marked.pixels[top : top + LABEL_HEIGHT, left : left + 50]
        assert set(np.unique(label)) == {INK, BACKGROUND}
    labels = [marked.pixels[row * tall : row * tall + LABEL_HEIGHT, 0:50].tobytes() for row in range(3)]
    assert len(set(labels)) == 3
    assert marked.palette is not None
    assert plain.palette is not None
    assert tuple(marked.palette[INK]) != tuple(marked.palette[BACKGROUND])
    assert np.array_equal(marked.low, plain.low)


def bar(picture: surgery.Picture) -> tuple[list[int], bytes]:
    lines = picture.pixels[-(BAR_HEIGHT + LABEL_HEIGHT) :]
    return lines[0].tolist(), lines[BAR_HEIGHT:].tobytes()


def test_the_scale_bar_shows_all_levels_and_the_limits_that_all_channels_share() -> None:
    several = surgery.draw(VALUES, tiler=Grid(labels=True))[0]
    layer = surgery.draw(VALUES, tiler=Grid(labels=True), normalizer=MinMax("layer"))[0]
    fixed = surgery.draw(VALUES, tiler=Grid(labels=True), normalizer=Fixed(-1, 1))[0]
    levels, _ = bar(several)
    ramp = [code for code in levels if code < LEVELS]
    assert (ramp[0], ramp[-1]) == (0, 250)
    assert ramp == sorted(ramp)
    assert len({bar(picture)[1] for picture in (several, layer, fixed)}) == 3


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 40), (1, 300, 2, 2), (2, 1, 9, 7)])
def test_small_maps_and_vectors_have_labels_too(shape: tuple[int, ...]) -> None:
    for picture in surgery.draw(torch.randn(shape), tiler=Grid(labels=True)):
        assert INK in picture.pixels
        assert picture.pixels.shape[1] >= 100


def test_the_channel_numbers_continue_in_the_next_part() -> None:
    one, two = surgery.draw(VALUES.repeat(1, 1, 12, 12), tiler=Grid(labels=True, megapixels=1, columns=3))
    assert (one.channels, two.channels) == ((0, 2), (3, 4))
    assert not np.array_equal(one.pixels[:LABEL_HEIGHT, :50], two.pixels[:LABEL_HEIGHT, :50])


def test_labels_are_an_option_on_the_command_line() -> None:
    assert Plugins(bare=True).resolve("tiler", "grid:labels=yes") == Grid(labels=True)
