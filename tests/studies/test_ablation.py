from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin import Mean, Replace, Scale, Zero
from surgery.data import inputs
from surgery.errors import EditError, ImageError, ModelError, PluginError, SelectionError
from surgery.inputs.image_loading import load_image
from surgery.output import Progress


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(10, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.conv(x))
        return torch.tanh(self.head(torch.cat((h, self.block(h)), 1)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 12, 14, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (12, 14, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def difference(model: nn.Module, edited: nn.Module, image: Tensor) -> float:
    with torch.no_grad():
        return float((model(image.clone()) - edited(image.clone())).abs().mean())


def labels(study: surgery.AblationStudy) -> list[str]:
    return [row.unit.label for row in study.rows]


def test_each_operation_is_edited_alone(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="conv | act | block.* | cat")
    traced = surgery.trace(model, image)
    assert labels(study) == ["conv", "act", "block.0", "block.1", "cat"]
    for row in study.rows:
        edited = surgery.edit(traced, row.unit.path, Zero())
        assert row.effect.mean_abs == pytest.approx(difference(model, edited, image), rel=1e-6)
        assert row.by_image["0"] == row.effect
    assert study.notes == ()


def test_each_channel_is_edited_alone_and_several_share_a_batch(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="conv | cat", each="channel", batch=4, edit=Scale(by=-1.0))
    traced = surgery.trace(model, image)
    assert labels(study) == [f"conv {n}" for n in range(6)] + [f"cat {n}" for n in range(10)]
    for row in study.rows:
        edited = surgery.edit(traced, row.unit.path, Scale(by=-1.0, channels=row.unit.channel_text))
        assert row.effect.mean_abs == pytest.approx(difference(model, edited, image), rel=1e-4)


def test_channels_are_edited_in_groups_of_neighbours(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="cat", each="group:4")
    assert labels(study) == ["cat 0-3", "cat 4-7", "cat 8-9"]


def test_a_module_is_edited_at_its_last_operation(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="block.0", each="module")
    assert labels(study) == ["block"]
    assert study.rows[0].unit.path == "block.1"
    alone = surgery.ablate(model, image, at="block.1")
    assert study.rows[0].effect == alone.rows[0].effect


def test_all_operations_are_edited_at_once(model: nn.Module, image: Tensor) -> None:
    [row] = surgery.ablate(model, image, at="conv | block.1", each="all").rows
    edited = surgery.edit(surgery.trace(model, image), "conv | block.1", Zero())
    assert row.effect.mean_abs == pytest.approx(difference(model, edited, image), rel=1e-6)
    assert row.unit.label == "2 operations"


def test_an_edit_that_changes_nothing_has_no_effect(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, edit=Scale(by=1.0), each="channel")
    assert all(row.effect == study[0].effect for row in study)
    assert study[0].effect.mean_abs == study[0].effect.largest == 0
    assert study[0].effect.ssim == 1


def test_rows_are_sorted_by_effect_or_in_order_of_execution(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="cat", each="channel")
    effects = [row.effect.mean_abs for row in study]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > effects[-1] > 0
    assert [record["channels"] for record in study.records()] == [row.unit.channel_text for row in study]
    executed = surgery.ablate(model, image, at="cat", each="channel", order="execution")
    assert [row.unit.channel_text for row in executed] == list(map(str, range(10)))
    assert executed[3].effect == study.rows[3].effect


def test_effects_are_averaged_over_images_and_kept_for_each(model: nn.Module, photos: Path) -> None:
    study = surgery.ablate(model, photos, at="cat")
    assert study.images == ("a", "b")
    [row] = study.rows
    singles = [surgery.ablate(model, photos / f"{name}.png", at="cat").rows[0].effect for name in "ab"]
    assert [row.by_image[name] for name in "ab"] == singles
    assert row.effect.mean_abs == pytest.approx((singles[0].mean_abs + singles[1].mean_abs) / 2)
    together = torch.cat([load_image(photos / f"{name}.png") for name in "ab"])
    rows = surgery.ablate(model, together, at="cat").rows
    assert rows[0].effect.mean_abs == pytest.approx(row.effect.mean_abs, rel=1e-6)


def test_the_effect_inside_a_region_is_ranked(model: nn.Module, image: Tensor) -> None:
    mask = np.zeros((12, 14))
    mask[:5, :5] = 1
    study = surgery.ablate(model, image, at="cat", each="channel", within=mask)
    assert study.notes == ()
    inside = [row.effect.inside for row in study]
    assert inside == sorted(inside, reverse=True)  # type: ignore[type-var]
    traced = surgery.trace(model, image)
    best = study[0]
    edited = surgery.edit(traced, "cat", Zero(channels=best.unit.channel_text))
    with torch.no_grad():
        distance = (model(image.clone()) - edited(image.clone())).abs()
    assert best.effect.inside == pytest.approx(float(distance[..., :5, :5].mean()), rel=1e-4)
    total = best.effect.inside * 25 + best.effect.outside * (12 * 14 - 25)  # type: ignore[operator]
    assert total / (12 * 14) == pytest.approx(best.effect.mean_abs, rel=1e-4)


def test_a_reference_set_gives_the_replacement(model: nn.Module, image: Tensor, photos: Path) -> None:
    study = surgery.ablate(model, image, at="cat", edit=Mean(over="reference"), reference=photos)
    traced = surgery.trace(model, image)
    together = torch.cat([load_image(photos / f"{name}.png") for name in "ab"])
    edited = surgery.edit(traced, "cat", Mean(over="reference"), reference=together)
    assert study.rows[0].effect.mean_abs == pytest.approx(difference(model, edited, image), rel=1e-4)
    same = surgery.ablate(model, image, at="cat", edit=Replace(), reference=image)
    assert same.rows[0].effect.largest == 0


def test_variants_run_one_at_a_time_where_entries_of_a_batch_depend_on_each_other(image: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Conv2d(5, 2, 1))
    study = surgery.ablate(model, image, at="0", each="channel", mode="train", seed=7)
    reason = "entries of a batch depend on each other, as with batch norm or dropout in train mode"
    assert study.notes == (
        f"variants run one at a time: {reason}",
        "the model draws random numbers: each variant uses the same seed, 7",
    )
    traced = surgery.trace(model, image).train()
    expected = []
    for channel in range(5):
        outputs = []
        for subject in (traced, surgery.edit(traced, "0", Zero(channels=[channel]))):
            torch.manual_seed(7)
            with torch.no_grad():
                outputs.append(subject(image))
        expected.append(float((outputs[0] - outputs[1]).abs().mean()))
    assert [row.effect.mean_abs for row in study.rows] == pytest.approx(expected, rel=1e-6)


def test_an_observed_model_gives_the_same_numbers_as_its_graph(model: nn.Module, image: Tensor) -> None:
    symbolic = surgery.ablate(model, image, at="cat | conv", each="channel")
    observed = surgery.ablate(model, image, at="cat | conv", each="channel", front_end="observed")
    assert observed.rows[0].unit.path == "conv"
    for one, other in zip(symbolic.rows, observed.rows, strict=True):
        assert one.effect == other.effect
    assert "variants run as a whole, not from the edit on: the model is observed" in observed.notes


def test_logits_have_a_difference_and_no_image_measures(image: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7)).eval()
    study = surgery.ablate(model, image, at="0", each="channel")
    assert all(row.effect.ssim is None and row.effect.mean_abs > 0 for row in study)
    assert study.pictures is not None
    assert study.pictures.units[0].heat_map is None
    assert study.pictures.value_range is None


def test_the_pictures_are_those_of_the_largest_effects_on_the_first_image(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="cat", each="channel", top=3)
    pictures = study.pictures
    assert pictures is not None
    assert [picture.unit for picture in pictures.units] == [row.unit for row in study[:3]]
    traced = surgery.trace(model, image)
    [activation] = surgery.record(surgery.insert(traced, surgery.select(traced, "cat")), image)
    for picture in pictures.units:
        channel = int(picture.unit.channel_text)
        assert picture.maps is not None
        assert torch.equal(picture.maps[0], activation.values[0, channel])
        assert picture.heat_map is not None
        assert float(picture.heat_map.mean()) == pytest.approx(picture.effect.mean_abs, rel=1e-5)
        expected = (picture.output - pictures.output).abs().mean(0)
        assert torch.allclose(picture.heat_map, expected, atol=1e-6)
    assert torch.equal(pictures.input, image[0])
    assert surgery.ablate(model, image, at="cat", top=0).pictures.units == ()  # type: ignore[union-attr]


def test_progress_counts_variants(model: nn.Module, photos: Path) -> None:
    seen: list[Progress] = []
    surgery.ablate(model, photos, at="cat", each="channel", progress=seen.append)
    assert [each.done for each in seen] == list(range(1, 21))
    assert {each.total for each in seen} == {20}
    assert seen[0].image == "a  cat 0"


def test_the_model_and_the_random_generator_stay_as_they_were(image: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    surgery.ablate(model, image, at="0", mode="train")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert model.training


def test_an_image_that_can_not_be_read_is_skipped_and_listed(model: nn.Module, photos: Path) -> None:
    (photos / "b.png").write_bytes(b"no image")
    study = surgery.ablate(model, photos, at="cat")
    assert study.images == ("a",)
    assert [Path(failure.path).name for failure in study.failed] == ["b.png"]
    (photos / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.png"):
        surgery.ablate(model, photos, at="cat")


def test_operations_that_can_not_be_edited_are_left_out_with_a_note(image: Tensor) -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            view = y.view(-1)
            y.add_(1)
            return view.sum() + x.shape[0] + y

    study = surgery.ablate(Views(), image)
    assert labels(study) == ["mul", "sum", "add@1", "add@2"]
    assert [note.partition(" can't")[0] for note in study.notes] == ["left out: view", "left out: add"]
    with pytest.raises(EditError, match="add can't be edited"):
        surgery.ablate(Views(), image, at="add")


def test_a_study_is_shown_as_text_and_as_a_table(model: nn.Module, image: Tensor) -> None:
    study = surgery.ablate(model, image, at="cat", each="channel")
    lines = repr(study).splitlines()
    assert lines[0].startswith("Net, zero: 10 channels, 1 image, ")
    assert lines[1].split()[:3] == ["cat", study[0].unit.channel_text, "difference"]
    assert len(lines) == 11
    page = study._repr_html_()
    assert page.count("<tr>") == 11
    assert "SSIM" in page
    assert len(surgery.ablate(model, image, each="channel")) > 12
    assert repr(surgery.ablate(model, image, each="channel")).splitlines()[-1].endswith(" more")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"at": "nothing"}, SelectionError, "nothing"),
        ({"each": "layer"}, EditError, "each is operation, module, channel, group:N or all, not 'layer'"),
        ({"each": "group:0"}, EditError, "each is operation"),
        ({"edit": "zeros"}, PluginError, "zeros"),
        ({"edit": 3}, EditError, "an edit is a name"),
        ({"edit": "zero:channels=99", "at": "cat"}, EditError, "cat has 10 channels, 0 to 9, not 99"),
        ({"edit": "zero:channels=1", "each": "channel"}, EditError, "leave channels out of zero:channels=1"),
        ({"edit": "mean:over=reference"}, EditError, "needs a reference run"),
        ({"reference": torch.zeros(1, 3, 8, 8)}, EditError, "takes nothing from a reference run"),
        ({"order": "size"}, ModelError, "order is effect or execution, not 'size'"),
        ({"top": -1}, ModelError, "top is how many units have pictures, 0 or more, not -1"),
        ({"batch": 0}, ModelError, "a batch has at least 1 image"),
        ({"mode": "test"}, ModelError, "mode is eval, train or as-is"),
        ({"size": 8}, ImageError, "go with files of images"),
        ({"inputs": {"y": 1}}, ModelError, "forward of Net has no input 'y'; it has x"),
        ({"edit": lambda maps: maps[:, :1]}, EditError, "gives"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    model: nn.Module, image: Tensor, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        surgery.ablate(model, image, **arguments)
    assert "\n" not in str(caught.value)


def test_a_reference_that_the_model_does_not_take_is_one_line(model: nn.Module, image: Tensor) -> None:
    with pytest.raises(ImageError, match=r"^the model does not take the reference \(1, 4, 8, 8\): .*channels"):
        surgery.ablate(model, image, at="cat", edit=Mean(over="reference"), reference=torch.zeros(1, 4, 8, 8))


def test_a_value_without_channels_has_no_study_of_them() -> None:
    class Empty(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((x, x[:, :0] * 2), 1)

    with pytest.raises(EditError, match="mul has no channels to edit"):
        surgery.ablate(Empty(), torch.rand(1, 3, 4, 4), at="mul", each="channel")


class Flat(nn.Module):
    """Its output has a row for each position of each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).permute(0, 2, 3, 1).reshape(-1, 4)


def test_an_output_may_have_several_rows_for_an_image(image: Tensor) -> None:
    torch.manual_seed(0)
    model = Flat().eval()
    study = surgery.ablate(model, image, at="conv", each="channel", batch=3)
    assert study.notes == ()
    for row in study.rows:
        edited = surgery.edit(surgery.trace(model, image), "conv", Zero(channels=row.unit.channel_text))
        assert row.effect.mean_abs == pytest.approx(difference(model, edited, image), rel=1e-5)


class Picky(nn.Module):
    """It fails if the first channel of its convolution is zero, and its output is shorter if the second one is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Any:
        h = self.conv(x)
        torch.linalg.inv(h[:, :1, :2, :2])
        return h[:, :, : 4 + int(bool(h[:, 1].any()))] + h.argmax(1, keepdim=True).amax((2, 3), keepdim=True)


@pytest.mark.parametrize("batch", [1, 8])
def test_variants_that_can_not_be_compared_are_left_out(image: Tensor, batch: int) -> None:
    torch.manual_seed(0)
    model = Picky().eval()
    study = surgery.ablate(model, torch.cat((image, -image)), at="conv", each="channel", batch=batch)
    assert labels(study) == ["conv 2", "conv 3"]
    failed, shorter = (note for note in study.notes if note.startswith("left out"))
    assert failed.startswith("left out on 0, 1: conv 0: the model fails: _LinAlgError: linalg.inv: ")
    assert shorter == (
        "left out on 0, 1: conv 1: the output is (1, 4, 4, 12), and can't be compared with the original one of "
        "(1, 4, 5, 12)"
    )
    traced = surgery.trace(model, image)
    edited = surgery.edit(traced, "conv", Zero(channels=[2]))
    assert study.rows[0].by_image["0"].mean_abs == pytest.approx(difference(model, edited, image), rel=1e-5)
    with pytest.raises(ImageError, match=r"^conv: the model fails: _LinAlgError"):
        surgery.ablate(model, image, at="conv", batch=batch)
    patched = surgery.patch(model, image, -image, at="conv", each="channel", batch=batch)
    assert len(patched) == 4
    with pytest.raises(ImageError, match=r"^the model does not take it as \(1, 3, 12, 14\): linalg.inv: "):
        surgery.patch(model, image, torch.zeros_like(image), at="conv", each="channel", batch=batch)


def test_a_value_that_an_edit_does_not_fit_is_left_out(image: Tensor) -> None:
    torch.manual_seed(0)
    model = Picky().eval()
    study = surgery.ablate(model, image, at="conv | argmax", edit="scale:by=3")
    assert labels(study) == ["conv"]
    assert "left out on 0: argmax can't be edited: scale needs values of floats, not of torch.int64" in study.notes
    with pytest.raises(EditError, match=r"^argmax can't be edited: scale needs values of floats, not of torch.int64$"):
        surgery.ablate(model, image, at="argmax", edit="scale:by=3")
    with pytest.raises(EditError, match=r"lambda> can't take \(1, 4, 10, 12\) of conv: ZeroDivisionError: .*test_abl"):
        surgery.ablate(model, image, at="conv", edit=lambda maps: maps / (1 // 0))
    with pytest.raises(EditError, match=r"^the edit of conv \(.*lambda>\) writes to the value that it is given"):
        surgery.ablate(model, image, at="conv", edit=lambda maps: maps.zero_())


def test_an_output_without_values_is_refused() -> None:
    with pytest.raises(ImageError, match=r"the output \(1, 3, 0, 4\) has no values, so there is nothing to compare"):
        surgery.ablate(nn.Sequential(nn.ReLU()), torch.zeros(1, 3, 0, 4))


def test_a_tensor_without_values_is_refused(model: nn.Module) -> None:
    with pytest.raises(ImageError, match="images are a dense tensor with values, not one on meta"):
        surgery.ablate(model, torch.empty(1, 3, 8, 8, device="meta"))


def test_a_tensor_without_rows_is_refused(model: nn.Module) -> None:
    with pytest.raises(ImageError, match=r"images are a tensor \(B, ...\) with one row for each, not \(0, 3, 8, 8\)"):
        surgery.ablate(model, torch.zeros(0, 3, 8, 8))


def test_the_skips_of_the_shipped_model_carry_less_the_deeper_they_are() -> None:
    study = surgery.ablate(surgery.load_model("facades"), [str(inputs()[0])], at="op:cat", order="execution")
    assert labels(study) == [f"up{n}.cat" for n in range(8, 1, -1)]
    effects = [row.effect.mean_abs for row in study]
    assert effects == sorted(effects)
    similarities = [row.effect.ssim for row in study]
    assert similarities == sorted(similarities, reverse=True)  # type: ignore[type-var]
