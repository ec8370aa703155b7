"""Inputs that maximize channels: what they reach, what they leave alone, and what is written of them."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.data import inputs
from surgery.errors import EditError, ImageError, ModelError, OutputError, SelectionError, SurgeryError, TraceError
from surgery.output import Progress
from surgery.stages import Preprocessing
from surgery.synthesis.image_parameters import ImageParameters, total_variation
from tests.nets import Branching

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = torch.zeros(1, 3, 12, 12)


def colors(weights: list[list[float]]) -> nn.Sequential:
    """A model whose channels are weighted sums of the colors, followed by an activation in place."""
    conv = nn.Conv2d(3, len(weights), 1, bias=False)
    conv.weight = nn.Parameter(torch.tensor(weights).reshape(-1, 3, 1, 1))
    return nn.Sequential(conv, nn.ReLU(inplace=True))


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 3))


def test_the_image_of_a_sum_of_colors_has_the_colors_of_its_weights() -> None:
    """The greatest value of a linear channel is known: black where a weight is negative, white where it is positive."""
    model = colors([[1.0, 0.2, -1.0], [-1.0, -1.0, -1.0]])
    traced = surgery.trace(model, IMAGE)
    best = surgery.maximize(traced, "0", range(2), steps=300, rate=0.3, variation=0, frequencies=False)
    assert best.channels == (0, 1)
    assert best.images.shape == (2, 3, 12, 12)
    for after, most in zip(best.after, (2.2, 3.0), strict=True):
        assert 0.95 * most < after <= most
    assert best.images[0].mean((1, 2)).sign().tolist() == [1, 1, -1]
    assert best.images[1].max() < -0.9
    torch.testing.assert_close(
        torch.tensor(best.after), torch.stack([model[0](best.images)[n, n].mean() for n in (0, 1)])
    )


def test_images_stay_within_the_range_of_the_preprocessing() -> None:
    model = colors([[5.0, 5.0, 5.0]])
    preprocessing = Preprocessing((12, 12))
    low, high = (torch.tensor(limit)[:, None, None] for limit in preprocessing.limits)
    traced = surgery.trace(model, IMAGE)
    best = surgery.maximize(traced, "0", 0, steps=80, rate=0.5, limits=preprocessing.limits)
    assert (best.images >= low).all()
    assert (best.images <= high).all()
    assert (best.images[0].mean((1, 2)) > 0.75 * high.flatten()).all()
    observed: Any = surgery.trace(model, IMAGE, front_end="observed")
    observed.preprocessing = preprocessing
    assert surgery.maximize(observed, "0", 0, steps=1).limits == preprocessing.limits
    assert surgery.maximize(traced, "0", 0, steps=1).limits == (-1, 1)


def test_the_same_seed_gives_the_same_images_whatever_else_is_asked_for() -> None:
    traced = surgery.trace(small().eval(), IMAGE)
    alone = surgery.maximize(traced, "3", 2, steps=12)
    assert torch.equal(surgery.maximize(traced, "3", 2, steps=12).images, alone.images)
    together = surgery.maximize(traced, "3", "0-3", steps=12)
    torch.testing.assert_close(together.images[2:3], alone.images, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(surgery.maximize(traced, "3", 2, steps=12, seed=1).images, alone.images, atol=0.01)
    assert alone.after[0] > alone.before[0]


def test_a_model_whose_entries_depend_on_each_other_runs_one_image_at_a_time() -> None:
    traced = surgery.trace(small().train(), IMAGE)
    singly = surgery.maximize(traced, "3", range(3), steps=5, batch_size=1)
    assert torch.equal(surgery.maximize(traced, "3", range(3), steps=5, batch_size=3).images, singly.images)


class OneImage(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(1, 3, 12, 12) * 2


def test_a_model_for_one_image_runs_one_image_at_a_time() -> None:
    traced = surgery.trace(OneImage(), IMAGE)
    assert surgery.maximize(traced, "mul", range(3), steps=3).images.shape == (3, 3, 12, 12)


def test_a_later_operation_in_place_changes_nothing() -> None:
    model = small().eval()
    without = copy.deepcopy(model)
    without[2] = nn.ReLU()
    found = [surgery.maximize(surgery.trace(each, IMAGE), "1", range(3), steps=6) for each in (model, without)]
    assert torch.equal(found[0].images, found[1].images)
    assert found[0].after == found[1].after


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_stays_as_it_is(mode: bool) -> None:
    model = small().train(mode)
    traced = surgery.trace(model, IMAGE)
    before = copy.deepcopy(traced.state_dict())
    generator = torch.get_rng_state()
    surgery.maximize(traced, "3", 0, steps=3)
    assert torch.equal(generator, torch.get_rng_state())
    for name, value in traced.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.requires_grad and p.grad is None for p in (*model.parameters(), *traced.parameters()))
    assert traced.training is mode


def test_a_run_within_no_grad_or_inference_mode_gives_the_same() -> None:
    traced = surgery.trace(small().eval(), IMAGE)
    expected = surgery.maximize(traced, "3", 1, steps=4).images
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            assert torch.equal(surgery.maximize(traced, "3", 1, steps=4).images, expected)


def test_an_observed_model_gives_what_its_graph_gives() -> None:
    model = small().eval()
    found = [
        surgery.maximize(surgery.trace(model, IMAGE, front_end=front_end), "3", (1, 3), steps=6).images
        for front_end in ("symbolic", "observed")
    ]
    torch.testing.assert_close(found[0], found[1])
    branching = surgery.trace(Branching(), torch.ones(1, 3, 8, 8))
    assert surgery.maximize(branching, "conv", 0, steps=3).images.shape == (1, 3, 8, 8)


def test_the_top_channels_are_the_most_active_ones_of_the_image() -> None:
    torch.manual_seed(5)
    model, image = small(), torch.randn(1, 3, 12, 12)
    traced = surgery.trace(model.eval(), image)
    means = model(image).mean((0, 2, 3))
    best = surgery.maximize(traced, "3", top=3, image=image, steps=1)
    assert list(best.channels) == means.argsort(descending=True)[:3].tolist()


def test_only_the_region_is_changed() -> None:
    traced = surgery.trace(colors([[1.0, 1.0, 1.0]]), IMAGE)
    corner = (0.0, 0.0, 0.5, 0.25)
    best = surgery.maximize(traced, "0", 0, region=corner, steps=40, rate=0.3, jitter=0, variation=0, frequencies=False)
    assert best.images[0, :, :6, :3].min() > 0.8
    assert best.images[0, :, 6:].abs().max() < 0.1
    assert best.images[0, :, :, 3:].abs().max() < 0.1


class Head(nn.Module):
    """Classes, from an image and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear((x * mask).mean((2, 3)))


def test_a_class_is_maximized_and_other_inputs_are_held() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(1, 1, 12, 12)
    mask[..., :6] = 1
    traced = surgery.trace(Head(), (IMAGE, mask))
    options: Any = {"steps": 30, "rate": 0.3, "jitter": 0, "variation": 0, "frequencies": False}
    best = surgery.maximize(traced, "linear", (0, 4), image=(IMAGE, mask), **options)
    by_name = surgery.maximize(traced, "linear", (0, 4), image={"x": IMAGE, "mask": mask}, **options)
    assert all(after > before for before, after in zip(best.before, best.after, strict=True))
    assert best.images[..., 6:].abs().max() < 0.1 < best.images[..., :6].abs().mean()
    assert torch.equal(best.images, by_name.images)


def test_a_model_of_half_precision_gets_images_of_half_precision() -> None:
    traced = surgery.trace(colors([[1.0, -1.0, 0.0]]).to(torch.bfloat16), IMAGE.to(torch.bfloat16))
    best = surgery.maximize(traced, "0", 0, steps=60, rate=0.3)
    assert best.images.dtype is torch.bfloat16
    assert best.after[0] > 1


def test_frequencies_give_structure_and_pixels_give_noise() -> None:
    traced = surgery.trace(surgery.load_model("facades").eval(), torch.zeros(1, 3, 256, 256))
    smooth, noisy = (
        surgery.maximize(traced, "down2.conv", 5, steps=24, variation=0, frequencies=frequencies).images
        for frequencies in (True, False)
    )
    coarse = [float(F.avg_pool2d(images, 8).var() / images.var()) for images in (smooth, noisy)]
    assert coarse[0] > 2 * coarse[1]


def test_a_step_of_one_size_changes_coarse_frequencies_more_than_fine_ones() -> None:
    parameters = ImageParameters((1, 16, 16), [0], (0.0, 1.0), torch.device("cpu"))
    (gradient,) = torch.autograd.grad(parameters.colors()[0, 0, 3, 5], [parameters.numbers])
    sizes = gradient[0, 0].norm(dim=-1)
    assert sizes[0, 1] > 6 * sizes[8, 7]
    assert parameters.inputs(torch.tensor([[[[0.0, 1.0]]]])).tolist() == [[[[0.0, 1.0]]]]


def test_total_variation_is_the_mean_difference_of_neighbors() -> None:
    images = torch.tensor([[[[0.0, 1.0], [3.0, 3.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
    assert total_variation(images).tolist() == [2.5 + 0.5, 0.0]
    assert total_variation(torch.ones(2, 1, 1, 3)).tolist() == [0, 0]


def test_progress_counts_steps() -> None:
    seen: list[Progress] = []
    traced = surgery.trace(small().eval(), IMAGE)
    surgery.maximize(traced, "3", range(3), steps=2, batch_size=2, progress=seen.append)
    assert [(each.done, each.total, each.image) for each in seen] == [
        (1, 4, "channel 0, 1"),
        (2, 4, "channel 0, 1"),
        (3, 4, "channel 2"),
        (4, 4, "channel 2"),
    ]


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        places = x.mean(1).argmax(1)
        return x.mean() * places.sum() + x.sum((0, 2, 3)).sum()


@pytest.mark.parametrize(
    ("model", "selection", "options", "error", "said"),
    [
        (small, "*", {"channel": 0}, SelectionError, "one operation is maximized, and 4 match: 0, 1, 2, 3; select one"),
        (small, "conv9", {"channel": 0}, SelectionError, "matches none of 4 operations"),
        (small, "3", {}, SelectionError, "either a channel or a number of top channels"),
        (small, "3", {"channel": 0, "top": 2, "image": IMAGE}, SelectionError, "either a channel or"),
        (small, "3", {"top": 2}, SelectionError, "the top channels are those of an image"),
        (small, "3", {"top": 5, "image": IMAGE}, SelectionError, "3 has 4 channels, not 5"),
        (small, "3", {"channel": 4}, EditError, "3 has 4 channels, 0 to 3, not 4"),
        (small, "3", {"channel": "1-x"}, EditError, "channels are whole numbers and ranges"),
        (small, "3", {"channel": -1}, EditError, "channels are whole numbers and ranges"),
        (small, "3", {"channel": 0, "steps": 0}, ModelError, "at least 1 step, not 0"),
        (small, "3", {"channel": 0, "rate": 0.0}, ModelError, "the rate is above 0, not 0"),
        (small, "3", {"channel": 0, "jitter": -1}, ModelError, "the jitter is at least 0 pixels"),
        (small, "3", {"channel": 0, "variation": -1.0}, ModelError, "the weight of the variation is at least 0"),
        (small, "3", {"channel": 0, "seed": 2**70}, ModelError, "a seed is a whole number"),
        (small, "3", {"channel": 0, "batch_size": 0}, ModelError, "a batch has at least 1 image"),
        (small, "3", {"channel": 0, "region": (0, 0, 2, 1)}, EditError, "a region is top, left, height and width"),
        (small, "3", {"channel": 0, "size": 1}, ImageError, "the model does not take images of"),
        (small, "3", {"channel": 0, "size": 0}, ImageError, "a size is at least 1, .*not 0x0"),
        (small, "3", {"channel": 0, "size": "big"}, ImageError, "a size is a number, .*not 'big'"),
        (small, "3", {"channel": 0, "size": 2**70}, ImageError, "a size is at least 1, and of at most"),
        (small, "3", {"channel": 0, "image": torch.zeros(1, 3, 12)}, ImageError, r"it is torch.float32 \(1, 3, 12\)"),
        (small, "3", {"channel": 0, "image": "a.png"}, ImageError, "it is str"),
        (Sizes, "argmax", {"channel": 0}, SelectionError, "argmax computes no tensor of floats"),
        (Sizes, "sum@1", {"channel": 0}, SelectionError, r"sum@1 \(3,\) has no channels of each image"),
    ],
)
def test_what_can_not_be_maximized_is_one_line(
    model: Any, selection: str, options: dict[str, Any], error: type[SurgeryError], said: str
) -> None:
    traced = surgery.trace(model().eval(), IMAGE)
    with pytest.raises(error, match=said) as caught:
        surgery.maximize(traced, selection, **{"steps": 2, **options})
    assert "\n" not in str(caught.value)


def test_a_model_of_two_inputs_asks_for_both() -> None:
    traced = surgery.trace(Head(), (IMAGE, torch.ones(1, 1, 12, 12)))
    with pytest.raises(ModelError, match=r"Head takes x, mask; give all of them: image=\(image, ...\)"):
        surgery.maximize(traced, "linear", 0)
    with pytest.raises(TraceError, match="has 1 inputs, but forward also needs mask"):
        surgery.maximize(traced, "linear", 0, image=IMAGE)


def test_what_is_saved_says_what_it_is(tmp_path: Path) -> None:
    traced = surgery.trace(small().eval(), IMAGE)
    best = surgery.maximize(traced, "3", (1, 3), steps=3, region=(0, 0, 1, 0.5))
    names = best.save(tmp_path / "out")
    assert names == ("004-3-c001.png", "004-3-c003.png", "sheet.png")
    with Image.open(tmp_path / "out" / names[1]) as picture:
        note = json.loads(picture.text["surgery"])  # type: ignore[attr-defined]
        assert (picture.size, picture.mode) == ((12, 12), "RGB")
        red = picture.getpixel((4, 7))[0]  # type: ignore[index]
    assert abs(red / 127.5 - 1 - float(best.images[1, 0, 7, 4])) <= 0.51 / 127.5
    assert note["shows"] == "an input that maximizes channel 3 of 3"
    assert (note["mean_before"], note["mean_after"]) == (best.before[1], best.after[1])
    assert (note["seed"], note["steps"], note["region"]) == ("0", "3", "[0, 0, 1, 0.5]")
    assert surgery.verify(tmp_path / "out").sound
    with pytest.raises(OutputError, match="already holds a run of Sequential; add --overwrite"):
        best.save(tmp_path / "out")
    (tmp_path / "out" / "own.txt").write_text("stays")
    fewer = surgery.maximize(traced, "3", 0, steps=1)
    assert fewer.save(tmp_path / "out", overwrite=True) == ("004-3-c000.png", "sheet.png")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "004-3-c000.png",
        "manifest.json",
        "own.txt",
        "sheet.png",
    ]


def test_the_input_of_a_pair_of_images_is_drawn_side_by_side() -> None:
    """The first image is to be white, and the second one black."""
    conv = nn.Conv2d(6, 1, 1, bias=False)
    conv.weight = nn.Parameter(torch.tensor([1.0, 1, 1, -1, -1, -1]).reshape(1, 6, 1, 1))
    best = surgery.maximize(surgery.trace(nn.Sequential(conv), torch.zeros(1, 6, 8, 8)), "0", 0, steps=60, rate=0.5)
    (picture,) = best.pictures
    assert picture.pixels.shape == (8, 16, 3)
    assert picture.pixels[:, :8].mean() > 200
    assert picture.pixels[:, 8:].mean() < 55


def test_the_result_draws_itself() -> None:
    traced = surgery.trace(small().eval(), IMAGE)
    best = surgery.maximize(traced, "3", "0-3", steps=2)
    assert repr(best).startswith("Maximized('3', channel 0 from ")
    assert repr(best).endswith(", 3 more channels)")
    assert [picture.pixels.shape for picture in best.pictures] == [(12, 12, 3)] * 4
    assert best._repr_png_().startswith(b"\x89PNG")
    assert best.sheet.pixels.shape[2] == 3


def test_the_command_writes_the_pictures_and_a_table(run: Any, tmp_path: Path) -> None:
    image = inputs()[0]
    done = run(
        "maximize", "facades", image, "--at", "down3.conv", "--top", 2, "--steps", 2, "-o", "out", "--no-plugins"
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "down3.conv  2 channels maximized"
    assert "look at out/sheet.png" in lines
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == 4
    assert all(name in done.out for name in names if name.startswith("006-"))
    assert run("verify", "out").code == 0
    again = run("maximize", "facades", "--at", "down3.conv", "--channel", "1", "-o", "out", "--no-plugins")
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert "already holds a run of facades" in again.err


def test_the_command_says_that_weights_are_random_and_uses_the_range_of_the_model(run: Any, tmp_path: Path) -> None:
    options = ["--channel", "0", "--steps", 1, "--size", 32, "--no-plugins", "-o", "out"]
    done = run("maximize", "torchvision/resnet18", "--at", "conv1", *options)
    assert done.code == 0, done.err
    assert "its weights are random" in done.err
    (name,) = (path for path in (tmp_path / "out").iterdir() if path.name.endswith("-c000.png"))
    with Image.open(name) as picture:
        note = json.loads(picture.text["surgery"])  # type: ignore[attr-defined]
    assert note["black"] == list(Preprocessing((32, 32)).limits[0])
    assert note["weights"] == "random, seed 0"


def test_the_command_maximizes_an_edited_model(run: Any, tmp_path: Path) -> None:
    edit = "down1.conv = zero"
    options = ["--steps", 1, "--edit", edit, "--channel", "0,2", "-o", "out", "--no-plugins", "--region", "0,0,0.5,0.5"]
    done = run("maximize", "facades", "--at", "down2.conv", *options)
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["edits"] == ["down1.conv = zero"]
    assert manifest["settings"]["channels"] == [0, 2]
    assert run("verify", "out").code == 0


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "name one operation"),
        (["--at", "down3.conv"], 2, "choose channels: --channel 5"),
        (["--at", "down3.conv", "--top", "3"], 2, "surgery maximize MODEL IMAGE --top N"),
        (["--at", "down3.conv", "--channel", "1", "--region", "0,1"], 2, "a region is top,left,height,width"),
        (["--at", "down3.conv", "--channel", "99"], 1, "down3.conv has 32 channels, 0 to 31, not 99"),
        (["--at", "down3.*", "--channel", "1"], 1, "one operation is maximized, and 3 match"),
        (["--at", "down3.conv", "--channel", "1", "--device", "nothing"], 1, "there is no device 'nothing'"),
    ],
)
def test_a_command_that_can_not_be_done_is_one_line(run: Any, options: list[str], code: int, said: str) -> None:
    done = run("maximize", "facades", "--no-plugins", "--steps", "1", *options)
    assert done.code == code
    assert said in done.err
    assert done.err.count("\n") == 1
