"""The drawing of a batch: steps, shortcuts, and stages that break their promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.normalizers import MinMax
from surgery.builtin.tilers import Grid
from surgery.drawing import png_files as png
from surgery.drawing.activations import make_activations, make_image_activations
from surgery.drawing.extremes import Extremes, find_finite_extremes
from surgery.errors import RenderError
from surgery.stages import Recipe, TileLayout, Tiler
from surgery.types import Operation
from tests.drawing.examples import OPERATION, make_drawing


def test_a_subclass_with_its_own_call_does_not_inherit_shortcuts() -> None:
    class Turned(Grid):
        def __call__(self, levels: Tensor, /) -> Tensor:
            return super().__call__(levels.flip(1))

    class Wider(MinMax):
        def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]:
            low, high = super().__call__(values)
            return low - 1, high + 1

    values = torch.randn(1, 2, 16, 16)
    turned = make_drawing(values, tiler=Turned(columns=2, gap=0)).pictures(0)[0]
    plain = make_drawing(values, tiler=Grid(columns=2, gap=0)).pictures(0)[0]
    assert np.array_equal(turned.pixels, np.roll(plain.pixels, 16, axis=1))
    assert turned.scanlines is None
    assert plain.scanlines is not None
    wider, exact = make_drawing(values, normalizer=Wider()), make_drawing(values)
    wider.quantize_now(pixels=True)
    assert np.allclose(wider.levels(0).low, exact.levels(0).low - 1)


def test_a_copy_of_a_picture_is_written_with_its_own_pixels() -> None:
    picture = surgery.draw(torch.randn(1, 2, 16, 16))[0]
    assert picture.scanlines is not None
    other = replace(picture, pixels=np.ascontiguousarray(picture.pixels[::-1]))
    with Image.open(BytesIO(png.encode_png(other))) as written:
        assert np.array_equal(np.asarray(written), other.pixels)
    assert replace(picture, palette=picture.palette).scanlines is picture.scanlines


def laid(layout: object) -> Tiler:
    """Return a tiler that declares this layout."""

    def tiler(levels: Tensor) -> Tensor:
        return levels

    tiler.layout = lambda *_: layout() if callable(layout) else layout  # type: ignore[attr-defined]
    return tiler


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"normalizer": lambda values: values.mean()}, "did not return a pair"),
        ({"normalizer": lambda values: (values.amax(), values.amin())}, "low <= high"),
        ({"normalizer": lambda values: (values[0, 0, 0], values[0, 0, 0])}, "can't be broadcast"),
        ({"tiler": lambda levels: levels[0]}, r"has to return \(B, N, H, W\) uint8"),
        ({"tiler": lambda levels: levels.float()}, "has to return"),
        ({"tiler": laid("rows")}, "has to return a layout of 3 maps, not 'rows'"),
        ({"tiler": laid(TileLayout(4, 4, 2))}, "has to return a layout of 3 maps, not TileLayout"),
        (
            {"tiler": laid(lambda: TileLayout(3, 2, 2))},
            r"can't lay out \(2, 3, 2, 2\): .*3 maps don't fill",
        ),
        (
            {"tiler": laid(lambda: TileLayout(3, 3, 0))},
            r"can't lay out \(2, 3, 2, 2\): .*the gap of a tile layout is at least 0",
        ),
        (
            {"tiler": laid(lambda: TileLayout(3, 3, 1.5))},
            r"can't lay out \(2, 3, 2, 2\): .*a tile layout needs whole numbers",
        ),  # type: ignore[arg-type]
        ({"tiler": lambda levels: levels.repeat(2, 1, 1, 1)}, "4 images for a batch of 2"),
        ({"colormap": lambda values: values}, "has to return"),
        ({"colormap": lambda values: 1 / 0}, "can't be sampled"),
    ],
)
def test_a_broken_stage_is_named(stages: dict[str, Any], message: str) -> None:
    with pytest.raises(RenderError, match=message):
        make_drawing(torch.arange(24.0).reshape(2, 3, 2, 2), **stages).pictures(0)


def test_an_image_in_its_own_colors_does_not_use_the_tiler() -> None:
    recipe = replace(DEFAULT_RECIPE, tiler=laid(lambda: 1 / 0))
    (activation,) = make_image_activations(OPERATION, torch.rand(1, 3, 60, 60), ["a"], (0.0, 1.0), recipe)
    activation.drawing.quantize_now(pixels=True)
    assert activation.pictures[0].pixels.shape == (60, 60, 3)
    assert activation.levels.codes.shape == (3, 60, 60)


def test_an_option_named_layout_is_not_a_layout_method() -> None:
    @dataclass(frozen=True)
    class Named:
        layout: str = "first"

        def __call__(self, levels: Tensor, /) -> Tensor:
            return levels[:, :1]

    values = torch.randn(1, 3, 60, 60)
    assert make_drawing(values, tiler=Named()).pictures(0)[0].pixels.shape == (60, 60)


@pytest.mark.parametrize("spoil", [False, True])
def test_a_device_that_must_not_wait_gives_the_same_pictures(spoil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    values[1, 2] = 3
    if spoil:
        values[0, 1, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    here = make_drawing(values)

    def from_maps(maps: Tensor) -> Extremes:
        spoiled = torch.stack((maps.isnan(), maps.isinf())).flatten(2).any(2)
        raw = torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
        return Extremes(raw, find_finite_extremes(maps), spoiled, None)

    monkeypatch.setattr(Extremes, "from_maps", from_maps)
    # float64 is quantized by the code for other devices.
    there = make_drawing(values.double())
    for position in range(2):
        one, other = here.levels(position), there.levels(position)
        assert np.abs(one.codes.astype(int) - other.codes).max() <= 1
        assert (one.codes != other.codes).mean() < 1e-3
        assert here.facts(position) == there.facts(position)


def test_after_quantize_now_the_values_are_not_needed() -> None:
    values = torch.randn(2, 3, 5, 5)
    one, other = make_drawing(values.clone(), stats=True), make_drawing(values, stats=True)
    assert other.quantize_now(pixels=True) == 2 * 3 * 5 * 5
    assert other.quantize_now(pixels=True) == 0
    values.zero_()
    for position in range(2):
        assert np.array_equal(one.pictures(position)[0].pixels, other.pictures(position)[0].pixels)
        assert one.facts(position) == other.facts(position)
    numbers = make_drawing(torch.ones(1, 1, 2, 2))
    numbers.quantize_now(pixels=False)
    assert numbers.facts(0).max == 1
    with pytest.raises(RenderError, match="the values of an activation are gone once the model has run on"):
        numbers.levels(0)


def test_each_step_is_computed_once_for_a_batch() -> None:
    calls: list[str] = []

    def normalizer(values: Tensor) -> tuple[Tensor, Tensor]:
        calls.append("limits")
        return values.amin(), values.amax()

    found = list(make_activations(OPERATION, torch.randn(3, 2, 4, 4), ["a", "b", "c"], Recipe(normalizer, Grid())))
    assert [activation.facts.channels for activation in found] == [2, 2, 2]
    assert calls == []
    for activation in found * 2:
        assert activation.pictures
        assert activation.levels
    assert calls == ["limits"]


@pytest.mark.parametrize("shape", [(2, 0, 3, 3), (2, 3, 0, 4)])
def test_empty_values_have_levels_without_pixels(shape: tuple[int, ...]) -> None:
    one, two = make_activations(Operation("a", "a", "k", 1), torch.zeros(shape), ["one", "two"], DEFAULT_RECIPE)
    one.drawing.quantize_now(pixels=True)
    assert one.pictures == ()
    assert [levels.codes.shape for levels in (one.levels, two.levels)] == [shape[1:], shape[1:]]
    assert one.levels.low.tolist() == [0] * shape[1]
