from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.normalizers import Fixed
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.transforms import FFT, PCA, TRANSFORMS, Abs, Mean, TopK
from surgery.drawing.activations import make_activations
from surgery.drawing.palettes import SPECIAL_CODES
from surgery.errors import RenderError
from surgery.output import Watcher
from surgery.plugins.registry import Plugins
from surgery.stages import Recipe
from surgery.text.descriptions import describe_stage
from surgery.types import NAN, PLUS_INF, Operation

NAN_COLOR = SPECIAL_CODES["NaN"][1]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_abs_draws_magnitudes() -> None:
    maps = normal(2, 3, 5, 4)
    assert torch.equal(Abs()(maps), maps.abs())
    (picture,) = surgery.draw(torch.tensor([[[[-4.0, 2.0]]]]), transforms=[Abs()], normalizer=Fixed(0, 4))
    assert picture.pixels[0, 0] == 250


def test_mean_gives_one_map_that_is_nan_where_any_channel_is() -> None:
    maps = normal(2, 3, 5, 4)
    maps[1, 2, 0, 0] = torch.nan
    made = Mean()(maps)
    assert made.shape == (2, 1, 5, 4)
    assert torch.equal(made[0, 0], maps[0].mean(0))
    assert made.isnan().nonzero().tolist() == [[1, 0, 0, 0]]


def test_topk_keeps_the_channels_with_the_most_variance_in_their_order() -> None:
    scale = torch.tensor([[1.0, 9.0, 3.0, 5.0], [5.0, 1.0, 9.0, 3.0]])
    maps = normal(1, 1, 6, 6) * scale[:, :, None, None] + 100
    made = TopK(2)(maps)
    assert torch.equal(made[0], maps[0, [1, 3]])
    assert torch.equal(made[1], maps[1, [0, 2]])
    assert torch.equal(TopK(9)(maps), maps)


def test_topk_ignores_nonfinite_values_and_prefers_the_first_of_equal_channels() -> None:
    maps = torch.zeros(1, 5, 4, 4)
    maps[0, 1] = normal(4, 4)
    maps[0, 3] = normal(4, 4)
    maps[0, 3, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    maps[0, 4] = torch.nan
    made = TopK(3)(maps)
    assert torch.equal(made[0, 0], maps[0, 0])
    assert torch.equal(made[0, 1], maps[0, 1])
    assert torch.equal(made[0, 2].nan_to_num(9, 9, 9), maps[0, 3].nan_to_num(9, 9, 9))
    with pytest.raises(RenderError, match="k is at least 1, not 0"):
        TopK(0)


def test_fft_has_frequency_zero_in_the_middle_and_a_checkerboard_at_the_corner() -> None:
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    board = 3.0 + 2.0 * (-1.0) ** (rows + columns)
    made = FFT("linear")(board[None, None])[0, 0]
    assert made[4, 4] == pytest.approx(3 * 64)
    assert made[0, 0] == pytest.approx(2 * 64)
    assert made.sum() == pytest.approx(5 * 64, rel=1e-4)
    assert FFT()(board[None, None])[0, 0, 0, 0] == pytest.approx(math.log1p(128))


def test_fft_replaces_nonfinite_values_by_the_mean() -> None:
    maps = torch.full((1, 2, 4, 4), 5.0)
    maps[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    made = FFT("linear")(maps)
    assert torch.equal(made[0, 0], made[0, 1])
    with pytest.raises(RenderError, match="scale is log or linear, not 'dB'"):
        FFT("dB")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 7, 12, 9), (2, 40, 3, 4)], ids=["more places", "more channels"])
def test_pca_gives_the_first_three_components_of_each_image(shape: tuple[int, ...]) -> None:
    maps = normal(*shape) * torch.arange(1, shape[1] + 1)[None, :, None, None]
    made = PCA()(maps)
    assert made.shape == (shape[0], 3, *shape[2:])
    for image, drawn in zip(maps, made, strict=True):
        places = image.flatten(1).T.double()
        places = places - places.mean(0)
        _, values, directions = torch.linalg.svd(places, full_matrices=False)
        found = drawn.flatten(1).T.double()
        expected = places @ directions[:3].T
        assert torch.allclose(found.abs(), expected.abs(), atol=1e-3 * float(values[0]))
        for direction in range(3):
            loading = directions[direction]
            sign = loading[loading.abs().argmax()].sign()
            assert torch.allclose(found[:, direction], expected[:, direction] * sign, atol=1e-3 * float(values[0]))


def test_pca_does_not_depend_on_the_other_images_of_a_batch() -> None:
    maps = normal(3, 6, 5, 5)
    assert torch.equal(PCA()(maps)[1:2], PCA()(maps[1:2]))


@pytest.mark.parametrize(
    "maps",
    [torch.full((1, 4, 3, 3), 2.0), torch.zeros(1, 1, 1, 1), torch.full((1, 2, 3, 3), 3e38)],
    ids=["constant", "one value", "great"],
)
def test_pca_of_constant_channels_is_zero(maps: Tensor) -> None:
    assert torch.equal(PCA()(maps), torch.zeros(1, 3, *maps.shape[2:]))


def test_pca_of_fewer_than_three_channels_leaves_the_rest_zero() -> None:
    made = PCA()(normal(1, 2, 5, 5))
    assert made[0, 1].abs().sum() > 0
    assert torch.equal(made[0, 2], torch.zeros(5, 5))


@pytest.mark.parametrize("shape", [(6, 5, 5), (40, 3, 4)], ids=["more places", "more channels"])
def test_pca_of_proportional_channels_has_one_component(shape: tuple[int, ...]) -> None:
    one = normal(1, 1, *shape[1:])
    made = PCA()(one * normal(1, shape[0], 1, 1, seed=1))[0]
    assert made[0].std() > 1
    assert torch.equal(made[1:], torch.zeros(2, *shape[1:]))


def test_pca_is_drawn_in_color_with_the_limits_of_its_three_components() -> None:
    maps = normal(1, 8, 6, 5)
    maps[0, 2, 1, 3] = torch.nan
    (picture,) = surgery.draw(maps, transforms=[PCA()])
    assert (picture.palette, picture.pixels.shape) == (None, (6, 5, 3))
    assert tuple(picture.pixels[1, 3]) == NAN_COLOR
    made = PCA()(maps)[0]
    place = made.nan_to_num(-torch.inf).flatten(1).argmax(1)
    for channel in range(3):
        assert picture.pixels.reshape(-1, 3)[place[channel], channel] == 255
    assert np.allclose(picture.high, made.nan_to_num(-torch.inf).amax((1, 2)))
    assert np.allclose(picture.low, made.nan_to_num(torch.inf).amin((1, 2)))


def test_only_the_last_transform_decides_whether_the_picture_is_in_color() -> None:
    maps = normal(1, 8, 6, 5)
    (picture,) = surgery.draw(maps, transforms=[PCA(), Abs()])
    assert picture.palette is not None
    (picture,) = surgery.draw(maps, transforms=[Abs(), PCA()])
    assert picture.palette is None


def test_transforms_are_applied_in_order_before_the_limits() -> None:
    maps = normal(1, 4, 5, 5)
    (one,) = surgery.draw(maps, transforms=[Abs(), Mean()])
    (other,) = surgery.draw(maps, transforms=[Mean(), Abs()])
    assert one.low.tolist() == pytest.approx([float(maps.abs().mean(1).min())])
    assert other.low.tolist() == pytest.approx([float(maps.mean(1).abs().min())])


def test_transforms_receive_nonfinite_values() -> None:
    seen: list[Tensor] = []

    def keep(maps: Tensor) -> Tensor:
        seen.append(maps)
        return maps

    maps = torch.tensor([[[[torch.nan, torch.inf, 1.0, 2.0]]]])
    (picture,) = surgery.draw(maps, transforms=[keep])
    assert torch.equal(seen[0].isnan(), maps.isnan())
    assert set(picture.pixels.ravel().tolist()) == {NAN, PLUS_INF, 0, 250}


def test_a_transform_may_change_the_number_and_size_of_the_maps() -> None:
    (picture,) = surgery.draw(normal(1, 6, 8, 8), transforms=[lambda maps: maps[:, :1, :3, :5].half()])
    assert picture.low.shape == (1,)
    assert picture.pixels.shape[0] % 3 == 0
    (picture,) = surgery.draw(normal(1, 12), transforms=[lambda maps: maps.reshape(1, 1, 3, 4)])
    assert picture.pixels.shape[1] * 3 == picture.pixels.shape[0] * 4


def test_facts_describe_the_values_and_limits_the_transformed_maps() -> None:
    values = torch.tensor([[[[-4.0, 0.0], [1.0, 2.0]]]])
    recipe = Recipe(DEFAULT_RECIPE.normalizer, DEFAULT_RECIPE.tiler, transforms=(Abs(),))
    (activation,) = make_activations(Operation("x", "x", "x", 1), values, ["a"], recipe)
    assert (activation.facts.min, activation.facts.max) == (-4, 2)
    assert (activation.levels.low.tolist(), activation.levels.high.tolist()) == ([0], [4])


def writes(maps: Tensor) -> Tensor:
    return maps.abs_()


def test_a_broken_transform_is_refused_in_one_line() -> None:
    def message(transform: Any, maps: Tensor | None = None) -> str:
        with pytest.raises(RenderError) as caught:
            surgery.draw(normal(2, 4, 3, 3) if maps is None else maps, transforms=[transform])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "writes to its input, which is memory of the model" in message(writes)
    assert "has to return (B, C, H, W) float, not (2, 4, 3) torch.float32" in message(lambda maps: maps[..., 0])
    assert "has to return (B, C, H, W) float, not (2, 4, 3, 3) torch.int64" in message(lambda maps: maps.long())
    assert "has to return (B, C, H, W) float, not list" in message(lambda maps: maps.tolist())
    assert "returned (1, 4, 3, 3) for maps of (2, 4, 3, 3)" in message(lambda maps: maps[:1])
    assert "returned (2, 0, 3, 3) for maps of (2, 4, 3, 3)" in message(lambda maps: maps[:, :0])
    assert "can't take (2, 4, 3, 3): IndexError: index 9 is out of bounds" in message(lambda maps: maps[:, 9])
    color = type("Two", (), {"color": True, "__call__": lambda self, maps: maps[:, :2]})()
    assert "has to return 3 channels of color, not 2" in message(color)


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(
    "values",
    [
        normal(3, 5, 4, 6),
        normal(1, 1, 1, 1),
        normal(2, 2000, 2, 2),
        normal(2, 7),
        normal(2, 3, 4),
        normal(2, 3, 4, 5, 6),
        torch.full((1, 3, 4, 4), torch.nan),
        normal(1, 3, 4, 4).double() * 1e300,
        (normal(1, 3, 4, 4) * 9).long(),
        normal(2, 6, 6, 4).permute(0, 3, 1, 2),
        normal(2, 3, 4, 4).half(),
    ],
    ids=lambda values: f"{tuple(values.shape)} {values.dtype}",
)
def test_built_in_transforms_accept_every_kind_of_value(name: str, values: Tensor) -> None:
    before = values.clone()
    pictures = surgery.draw(values, transforms=[TRANSFORMS[name]])
    again = surgery.draw(values, transforms=[TRANSFORMS[name]])
    assert len(pictures) == len(values)
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(pictures, again, strict=True))
    assert torch.equal(values.nan_to_num(), before.nan_to_num())


def test_the_options_of_a_transform_are_set_from_text() -> None:
    found = Plugins()
    assert found.resolve("transform", "topk:k=4") == TopK(4)
    assert found.resolve("transform", "fft:scale=linear") == FFT("linear")
    assert found.names("transform") == ["abs", "mean", "topk", "fft", "pca"]


def test_a_run_records_the_transforms_of_its_pictures(run: Any, tmp_path: Path) -> None:
    result = run(
        *("extract", "--at", "down2.conv", "--transform", "topk:k=4", "--transform", "pca"),
        *("--sink", "png", "--sink", "sheet"),
    )
    assert result.code == 0, result.err
    said = "TopK(k=4), PCA()"
    manifest = json.loads((tmp_path / "activations" / "manifest.json").read_text())
    assert manifest["recipe"]["transforms"] == said
    folder = tmp_path / "activations" / "facade-1"
    (file,) = folder.glob("*-down2.conv.png")
    with Image.open(file) as image:
        assert image.mode == "RGB"
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
    assert (note["transforms"], len(note["low"]), note["shape"]) == (said, 3, [16, 64, 64])
    with Image.open(folder / "000-input.png") as image, Image.open(folder / "sheet.png") as sheet:
        assert (image.mode, sheet.mode) == ("RGB", "RGB")
    (picture,) = manifest["images"][0]["activations"][1]["files"]
    assert len(picture["low"]) == 3
    assert Recipe(DEFAULT_RECIPE.normalizer, DEFAULT_RECIPE.tiler).describe()["transforms"] == "none"
    assert describe_stage(PCA()) == "PCA()"


def test_transforms_do_not_change_exact_values_or_the_input_picture(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8, 3), 40, np.uint8)).save(tmp_path / "photo.png")
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    seen: dict[str, Tensor] = {}
    surgery.extract(
        model,
        tmp_path / "photo.png",
        out=tmp_path / "out",
        transforms=[Abs()],
        sinks=[Png(), Sheet()],
        watchers=[Watcher("test", activation=lambda a: seen.__setitem__(a.path, a.values.clone()))],
    )
    assert torch.equal(seen["0"], model(surgery.load_image(tmp_path / "photo.png"))[0])
    with Image.open(tmp_path / "out" / "photo" / "000-input.png") as image:
        assert np.asarray(image).tolist() == np.full((8, 8, 3), 40).tolist()
