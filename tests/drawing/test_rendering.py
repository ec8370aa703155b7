from __future__ import annotations

import itertools
import json
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
from surgery.builtin.normalizers import NORMALIZERS, Fixed, MinMax, Percentile, Symmetric
from surgery.builtin.tilers import TILERS, Channels, Grid, Strip
from surgery.drawing import png_files as png
from surgery.drawing.activations import make_activations, make_image_activations
from surgery.drawing.batch_drawing import BatchDrawing
from surgery.drawing.extremes import Extremes, find_finite_extremes
from surgery.drawing.palettes import make_palette, recipe_palette
from surgery.errors import RenderError
from surgery.graph.tensors import named_tensors
from surgery.output.json_values import as_json, picture_limits
from surgery.stages import Recipe, TileLayout, Tiler
from surgery.types import BACKGROUND, LEVELS, MINUS_INF, NAN, PLUS_INF, Operation

OPERATION = Operation("f", "f", "f", 1)


def drawing(values: Tensor, **stages: Any) -> BatchDrawing:
    return BatchDrawing(values, Recipe(stages.pop("normalizer", MinMax()), stages.pop("tiler", Grid()), **stages))


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e6, 1e-30])
@pytest.mark.parametrize("scale", [1e-38, 1e-6, 1.0, 1e5, 1e37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_levels_equal_a_slow_reference_and_read_back(offset: float, scale: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(int(abs(offset)) % 1000)
    values = (torch.randn(2, 3, 7, 5, generator=generator, dtype=torch.float64) * scale + offset).to(dtype)
    if not values.isfinite().all():
        pytest.skip("does not fit the dtype")
    for position in range(2):
        levels = drawing(values).levels(position)
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
    assert drawing(values).levels(0).codes.ravel().tolist() == [0, 125, 250]
    tiny = torch.tensor([[[[0.0, 1e-45, 2.8e-45]]]])
    assert drawing(tiny).levels(0).codes.ravel().tolist() == [0, 125, 250]


@pytest.mark.parametrize(
    ("low", "high", "code"), [(-1.7e308, 1.7e308, 125), (1e300, 2e300, 0), (-3e38, 3e38, 125), (-1.0, 5e-324, 250)]
)
def test_fixed_limits_may_be_any_float64_values(low: float, high: float, code: int) -> None:
    picture = surgery.draw(torch.ones(1, 1, 16, 16), normalizer=Fixed(low, high))[0]
    assert (picture.pixels == code).all()
    assert [*picture.low, *picture.high] == [low, high]
    assert json.loads(as_json(dict(picture_limits(picture)))) == {"low": [low], "high": [high]}


@pytest.mark.parametrize("channels", [4, 10, 70])
def test_channels_last_memory_is_drawn_like_contiguous_memory(channels: int) -> None:
    maps = torch.randn(3, channels, 128, 128)  # four of them are worked on at once
    lying = maps.contiguous(memory_format=torch.channels_last)
    for one, other in zip(surgery.draw(maps), surgery.draw(lying), strict=True):
        assert np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.uint8])
def test_drawing_does_not_write_to_the_values(dtype: torch.dtype) -> None:
    values = (torch.rand(2, 3, 9, 9) * 2 - 1).to(dtype)
    before = values.clone()
    drawn = [make_image_activations(OPERATION, values, ["a", "b"], (-1.0, 1.0), DEFAULT_RECIPE)]
    drawn += [
        make_activations(OPERATION, values, ["a", "b"], DEFAULT_RECIPE),
        make_activations(OPERATION, values, None, DEFAULT_RECIPE),
    ]
    for activation in itertools.chain(*drawn):
        assert activation.pictures
        assert activation.facts.min is not None
        assert torch.equal(values, before)


def test_constant_maps_and_single_values_are_drawn_mid_scale() -> None:
    assert (drawing(torch.full((1, 2, 3, 3), 7.0)).levels(0).codes == 125).all()
    assert (drawing(torch.tensor([[[[4.0]]]])).levels(0).codes == 125).all()


def test_one_nan_does_not_blank_a_picture() -> None:
    values = torch.arange(9.0).reshape(1, 1, 3, 3)
    values[0, 0, 1, 1] = torch.nan
    values[0, 0, 0, 0] = -torch.inf
    values[0, 0, 2, 2] = torch.inf
    one = drawing(values)
    codes = one.levels(0).codes[0]
    assert (codes[1, 1], codes[0, 0], codes[2, 2]) == (NAN, MINUS_INF, PLUS_INF)
    assert (codes[0, 1], codes[2, 1]) == (0, 250)
    facts = one.facts(0)
    assert (facts.min, facts.max, facts.nan, facts.inf) == (1.0, 7.0, True, True)


def test_constant_channels_are_counted_in_maps_of_several_values() -> None:
    values = torch.zeros(1, 4, 2, 2)
    values[0, 1, 0, 0] = 1
    values[0, 2, 0, 0] = torch.nan
    values[0, 3] = torch.inf
    assert drawing(values).facts(0).constant_channels == 2
    assert drawing(torch.zeros(1, 3, 1, 1)).facts(0).constant_channels == 0


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_channel_without_any_finite_value_is_drawn(name: str) -> None:
    values = torch.full((1, 2, 2, 2), torch.nan)
    values[0, 1] = torch.inf
    one = drawing(values, normalizer=NORMALIZERS[name])
    assert one.levels(0).codes[:, 0, 0].tolist() == [NAN, PLUS_INF]
    assert one.facts(0).min is None


def test_exact_statistics_equal_those_of_numpy() -> None:
    values = torch.tensor([[[[0.0, 1.0], [2.0, torch.nan]], [[0.0, 0.0], [torch.inf, 5.0]]]])
    facts = drawing(values, stats=True).facts(0)
    finite = np.array([0, 1, 2, 0, 0, 5.0])
    assert facts.mean == pytest.approx(finite.mean())
    assert facts.std == pytest.approx(finite.std())
    assert (facts.zeros, facts.nan_count, facts.inf_count) == (3 / 8, 1, 1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float16])
def test_any_dtype_is_drawn(dtype: torch.dtype) -> None:
    values = torch.tensor([[[[0, 1], [1, 0]]]]).to(dtype)
    assert drawing(values).levels(0).codes.ravel().tolist() == [0, 250, 250, 0]


def test_sparse_values_are_drawn() -> None:
    assert drawing(torch.eye(3)[None, None].to_sparse()).levels(0).codes[0].tolist() == (np.eye(3) * 250).tolist()


@pytest.mark.parametrize(
    ("shape", "pictures", "channels"),
    [
        ((2, 3, 4, 5), 1, 3),
        ((2, 7), 1, 1),
        ((2, 6, 8), 1, 1),
        ((2, 3, 4, 5, 6), 1, 3),
        ((2,), 1, 1),
        ((2, 3, 2, 4, 5, 6), 1, 3),
        ((8, 3, 4, 5), 1, 12),
        ((8, 6, 8), 1, 4),
        ((8, 5), 1, 1),
    ],
)
def test_values_of_any_rank_are_drawn_as_maps(shape: tuple[int, ...], pictures: int, channels: int) -> None:
    values = torch.randn(shape)
    found = list(make_activations(OPERATION, values, ["a", "b"], DEFAULT_RECIPE))
    assert [activation.image for activation in found] == ["a", "b"]
    for number, activation in enumerate(found):
        assert len(activation.pictures) == pictures
        assert len(activation.levels.low) == channels
        share = shape[0] // 2
        assert torch.equal(activation.values, values[number] if share == 1 else values[number * share :][:share])


@pytest.mark.parametrize("shape", [(), (3, 4), (1, 2, 3)])
def test_values_that_can_not_be_split_by_image_belong_to_the_whole_batch(shape: tuple[int, ...]) -> None:
    found = list(make_activations(OPERATION, torch.randn(shape), ["a", "b"], DEFAULT_RECIPE))
    assert [(activation.image, activation.values.shape) for activation in found] == [(None, torch.Size(shape))]
    assert len(found[0].pictures) == 1


def test_an_empty_value_has_no_picture_and_no_facts() -> None:
    (activation,) = make_activations(OPERATION, torch.zeros(1, 0, 3, 3), ["a"], DEFAULT_RECIPE)
    assert activation.pictures == ()
    assert activation.facts.min is None


def test_tensors_are_found_in_containers_of_every_kind() -> None:
    @dataclass
    class Pair:
        left: Any
        right: Any

    one, other = torch.zeros(1), torch.ones(1)
    value = {"a": [one, 3], "b": Pair(None, (other,)), "c": Pair}
    assert [(key, tensor.item()) for key, tensor in named_tensors(value)] == [("[a][0]", 0), ("[b][right][0]", 1)]


def test_containers_give_one_activation_for_each_tensor() -> None:
    value = (torch.zeros(1, 2), {"logits": [torch.ones(1, 3), "text"]}, None)
    found = list(make_activations(OPERATION, value, ["a"], DEFAULT_RECIPE))
    assert [activation.path for activation in found] == ["f[0]", "f[1][logits][0]"]


def test_a_long_vector_is_folded_to_a_near_square() -> None:
    (picture,) = surgery.draw(torch.arange(1000.0)[None], tiler=Grid(least=1))
    assert picture.pixels.shape == (25, 40)
    (prime,) = surgery.draw(torch.arange(13.0)[None], tiler=Grid(least=1))
    assert prime.pixels.shape == (4, 4)
    assert (prime.pixels == BACKGROUND).sum() == 3


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
    assert drawing(values, normalizer=Symmetric()).levels(0).codes.ravel().tolist() == [94, 125, 250]
    middle = recipe_palette(Recipe(Symmetric(), Grid()))[125].astype(int)
    assert middle.max() - middle.min() < 10


def test_fixed_clamps_values() -> None:
    values = torch.tensor([[[[-1.0, 0.0, 0.5, 1.0, 2.0]]]])
    assert drawing(values, normalizer=Fixed(0, 1)).levels(0).codes.ravel().tolist() == [0, 0, 125, 250, 250]


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


def test_a_subclass_with_its_own_call_does_not_inherit_shortcuts() -> None:
    class Turned(Grid):
        def __call__(self, levels: Tensor, /) -> Tensor:
            return super().__call__(levels.flip(1))

    class Wider(MinMax):
        def __call__(self, values: Tensor, /) -> tuple[Tensor, Tensor]:
            low, high = super().__call__(values)
            return low - 1, high + 1

    values = torch.randn(1, 2, 16, 16)
    turned = drawing(values, tiler=Turned(columns=2, gap=0)).pictures(0)[0]
    plain = drawing(values, tiler=Grid(columns=2, gap=0)).pictures(0)[0]
    assert np.array_equal(turned.pixels, np.roll(plain.pixels, 16, axis=1))
    assert turned.scanlines is None
    assert plain.scanlines is not None
    wider, exact = drawing(values, normalizer=Wider()), drawing(values)
    wider.quantize_now(pixels=True)
    assert np.allclose(wider.levels(0).low, exact.levels(0).low - 1)


def test_a_copy_of_a_picture_is_written_with_its_own_pixels() -> None:
    picture = surgery.draw(torch.randn(1, 2, 16, 16))[0]
    assert picture.scanlines is not None
    other = replace(picture, pixels=np.ascontiguousarray(picture.pixels[::-1]))
    with Image.open(BytesIO(png.encode_png(other))) as written:
        assert np.array_equal(np.asarray(written), other.pixels)
    assert replace(picture, palette=picture.palette).scanlines is picture.scanlines


def test_a_palette_has_the_colors_of_its_colormap_and_four_distinct_special_ones() -> None:
    colors = make_palette(lambda values: np.stack([values, values, values], 1))
    assert colors[:LEVELS:125].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    apart = [tuple(colors[code]) for code in (NAN, MINUS_INF, PLUS_INF, BACKGROUND)]
    assert len(set(apart)) == 4
    assert make_palette("viridis")[0].tolist() == [68, 1, 84]
    assert make_palette(["black", "white"])[250].tolist() == [255, 255, 255]


def test_an_unknown_colormap_is_refused_with_a_suggestion() -> None:
    with pytest.raises(RenderError, match="no colormap is called 'virdis'; did you mean 'viridis'"):
        make_palette("virdis")


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
        drawing(torch.arange(24.0).reshape(2, 3, 2, 2), **stages).pictures(0)


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
    assert drawing(values, tiler=Named()).pictures(0)[0].pixels.shape == (60, 60)


@pytest.mark.parametrize("spoil", [False, True])
def test_a_device_that_must_not_wait_gives_the_same_pictures(spoil: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    values[1, 2] = 3
    if spoil:
        values[0, 1, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    here = drawing(values)

    def from_maps(maps: Tensor) -> Extremes:
        spoiled = torch.stack((maps.isnan(), maps.isinf())).flatten(2).any(2)
        raw = torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
        return Extremes(raw, find_finite_extremes(maps), spoiled, None)

    monkeypatch.setattr(Extremes, "from_maps", from_maps)
    # float64 is quantized by the code for other devices.
    there = drawing(values.double())
    for position in range(2):
        one, other = here.levels(position), there.levels(position)
        assert np.abs(one.codes.astype(int) - other.codes).max() <= 1
        assert (one.codes != other.codes).mean() < 1e-3
        assert here.facts(position) == there.facts(position)


def test_after_quantize_now_the_values_are_not_needed() -> None:
    values = torch.randn(2, 3, 5, 5)
    one, other = drawing(values.clone(), stats=True), drawing(values, stats=True)
    assert other.quantize_now(pixels=True) == 2 * 3 * 5 * 5
    assert other.quantize_now(pixels=True) == 0
    values.zero_()
    for position in range(2):
        assert np.array_equal(one.pictures(position)[0].pixels, other.pictures(position)[0].pixels)
        assert one.facts(position) == other.facts(position)
    numbers = drawing(torch.ones(1, 1, 2, 2))
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
