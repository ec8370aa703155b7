from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.eager.parameter_copies import copy_to_run
from surgery.errors import ImageError, ModelError, SelectionError, TraceError
from surgery.extraction.output_check import compare_with_original
from surgery.inputs.image_loading import load_image
from surgery.inputs.image_search import find_images
from surgery.output import Progress
from tests.tracing.test_symbolic import assert_same, state


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu_(self.norm(self.conv(x)))
        return torch.tanh(self.head(self.drop(h)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(random.integers(0, 256, (8, 10, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def exact(folder: Path, image: str) -> dict[str, Any]:
    with np.load(folder / image / "activations.npz") as arrays:
        return dict(arrays)


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_the_written_values_are_those_that_the_model_computes(
    model: nn.Module, photos: Path, tmp_path: Path, batch_size: int
) -> None:
    out = tmp_path / "out"
    surgery.extract(model, photos, out=out, sinks=[Npz()], batch_size=batch_size)
    for name in ("a", "b", "c"):
        x = load_image(photos / f"{name}.png")
        kept = exact(out, name)
        with torch.no_grad():
            conv = model.conv(x)
            norm = model.norm(conv)
            assert np.allclose(kept["conv"], conv[0].numpy(), atol=1e-6)
            assert np.allclose(kept["norm"], norm[0].numpy(), atol=1e-6)
            assert np.allclose(kept["output"], model(x)[0].numpy(), atol=1e-6)
        assert kept["norm"].min() < 0, "a later in-place ReLU was seen"
        assert np.array_equal(kept["input"], x[0].numpy())


def test_the_model_is_left_as_it_was(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    before = state(model)
    generator = torch.get_rng_state()
    for mode in ("eval", "train"):
        surgery.extract(model, photos, out=tmp_path / mode, mode=mode)  # type: ignore[arg-type]
    assert_same(before, state(model))
    assert torch.equal(generator, torch.get_rng_state())


def test_train_mode_depends_on_the_seed_only(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    def drop(seed: int, images: Any, out: str) -> Any:
        surgery.extract(model, images, out=tmp_path / out, sinks=[Npz()], mode="train", seed=seed, at="drop")
        return exact(tmp_path / out, "b")["drop"]

    one = drop(1, photos, "one")
    assert np.array_equal(one, drop(1, photos / "b.png", "two"))
    assert not np.array_equal(one, drop(2, photos, "three"))


def test_the_manifest_lists_every_file_and_every_operation(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = surgery.extract(
        model, photos, out=out, sinks=[Png(), Sheet(), Npz()], batch_size=2, stats=True, source="net"
    )
    said = manifest(out)
    listed = {file["file"] for image in said["images"] for a in image["activations"] for file in a["files"]}
    listed |= {file for image in said["images"] for file in image["files"]} | {"manifest.json"}
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert listed == there
    assert len(there) == report.files
    assert [image["name"] for image in said["images"]] == ["a", "b", "c"]
    assert [operation["path"] for operation in said["operations"]] == [
        "input", "conv", "norm", "relu", "drop", "head", "tanh", "output",
    ]  # fmt: skip
    conv = said["images"][0]["activations"][1]
    with torch.no_grad():
        values = model.conv(load_image(photos / "a.png"))[0].numpy()
    assert conv["mean"] == pytest.approx(values.mean(), rel=1e-4, abs=1e-6)
    assert conv["files"][0]["low"] == pytest.approx(values.min(axis=(1, 2)).tolist())
    assert (said["model"]["source"], said["settings"]["mode"], said["settings"]["seed"]) == ("net", "eval", 0)
    assert len(said["model"]["weights_sha256"]) == 64


def test_without_output_the_model_stops_after_the_last_selected_operation(photos: Path, tmp_path: Path) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.inv(x.exp() * 0)

    report = surgery.extract(Failing(), photos, out=tmp_path / "out", at="op:mul", output=False)
    assert (report.images, report.failed) == (3, ())
    assert not (tmp_path / "out" / "a" / "003-output.png").exists()


def test_an_output_that_is_an_image_is_written_in_color(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    surgery.extract(model, photos / "a.png", out=tmp_path / "out", at="conv")
    with Image.open(tmp_path / "out" / "a" / "007-output.png") as image:
        assert image.mode == "RGB"
        with torch.no_grad():
            expected = (model(load_image(photos / "a.png"))[0].double() + 1) / 2 * 255
        assert np.array_equal(np.asarray(image), expected.round().byte().permute(1, 2, 0).numpy())
    with Image.open(tmp_path / "out" / "a" / "000-input.png") as image:
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(photos / "a.png")))


def test_an_unreadable_image_is_reported_and_the_others_are_run(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_text("no image")
    seen: list[Progress] = []
    images = [photos / "a.png", photos / "b.png", photos / "gone.png", photos / "c.png"]
    report = surgery.extract(model, images, out=tmp_path / "out", progress=seen.append)
    assert report.images == 2
    assert [failure.path for failure in report.failed] == [str(photos / "b.png"), str(photos / "gone.png")]
    assert "is not an image that can be read" in report.failed[0].reason
    assert manifest(tmp_path / "out")["failed"][1]["reason"].startswith("there is no image")
    assert (seen[-1].done, seen[-1].failed, seen[-1].total) == (2, 2, 4)


def test_the_message_about_a_wrong_size_names_the_sizes_that_fit(photos: Path, tmp_path: Path) -> None:
    report = surgery.extract(surgery.load_model("facades"), photos / "a.png", out=tmp_path / "out", size=384)
    (failure,) = report.failed
    assert failure.reason == "UNet takes heights and widths that are multiples of 256, not 384x384; size 512 would do"
    report = surgery.extract(nn.Sequential(nn.Conv2d(3, 1, 20)), photos / "a.png", out=tmp_path / "out")
    assert "the model does not take it as (1, 3, 8, 10)" in report.failed[0].reason


def test_images_of_several_sizes_are_batched_by_size(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(photos / "d.png")
    Image.new("RGB", (4, 4)).save(photos / "e.png")
    assert surgery.extract(model, photos, out=tmp_path / "out", batch_size=4).images == 5


def test_images_of_one_name_have_folders_of_their_own(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (8, 8)).save(other / "a.png")
    surgery.extract(model, [photos / "a.png", other / "a.png"], out=tmp_path / "out", at="conv")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "a-2", "manifest.json"]


def test_ctrl_c_keeps_the_finished_images(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    report = surgery.extract(model, photos, out=tmp_path / "out", progress=stop)
    assert (report.images, report.interrupted) == (1, True)
    assert [image["name"] for image in manifest(tmp_path / "out")["images"]] == ["a"]
    assert not list((tmp_path / "out").rglob("*.part"))


class FailsHalfWay(nn.Module):
    """Takes images of even width alone, which it notices after its first operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Any) -> Any:
        return self.conv(x).unflatten(3, (2, -1))


def test_an_image_that_fails_half_way_leaves_nothing_behind(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (5, 4)).save(photos / "b.png")
    out = tmp_path / "out"
    report = surgery.extract(FailsHalfWay(), photos, out=out, sinks=[Png(), Sheet(), Npz()])
    assert [failure.path for failure in report.failed] == [str(photos / "b.png")]
    assert "the model does not take it as (1, 3, 4, 5)" in report.failed[0].reason
    assert sorted(path.name for path in out.iterdir()) == ["a", "c", "manifest.json"]
    content = manifest(out)
    assert [image["name"] for image in content["images"]] == ["a", "c"]
    assert report.files == sum(path.is_file() for path in out.rglob("*"))
    assert all(finding.operation.shape != (1, 2, 4, 5) for finding in report.summaries)


def test_an_error_keeps_the_finished_images(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    from contextlib import contextmanager

    @contextmanager
    def breaks_later(folder: surgery.OutputFolder) -> Any:
        def write(activation: surgery.Activation) -> None:
            if activation.image == "b" and activation.operation.index > 1:
                raise ZeroDivisionError

        yield write

    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        surgery.extract(model, photos, out=out, sinks=[Png(), breaks_later])
    assert sorted(path.name for path in out.iterdir()) == ["a", "manifest.json"]
    assert manifest(out)["interrupted"]
    assert [image["name"] for image in manifest(out)["images"]] == ["a"]


def test_the_values_of_an_image_do_not_depend_on_earlier_images(photos: Path, tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls.add_(1)
            return x * self.calls

    model = Counting()
    surgery.extract(model, photos, out=tmp_path / "all", sinks=[Npz()])
    surgery.extract(model, photos / "c.png", out=tmp_path / "one", sinks=[Npz()])
    assert np.array_equal(exact(tmp_path / "all", "c")["mul"], exact(tmp_path / "one", "c")["mul"])
    assert model.calls.item() == 0


def test_a_run_on_another_device_leaves_the_model_where_it_is(model: nn.Module) -> None:
    from surgery.extraction.model_preparation import copy_for_run

    assert not {id(p) for p in copy_for_run(model, "as-is", "cpu").parameters()} & {id(p) for p in model.parameters()}
    moved = copy_for_run(model, "train", "meta")
    assert {parameter.device.type for parameter in moved.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert moved.training
    assert not model.training


def test_an_error_of_a_sink_is_not_reported_as_one_of_the_model(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    from contextlib import contextmanager

    @contextmanager
    def broken(folder: surgery.OutputFolder) -> Any:
        def write(activation: surgery.Activation) -> None:
            raise ZeroDivisionError

        yield write

    with pytest.raises(ZeroDivisionError):
        surgery.extract(model, photos, out=tmp_path / "out", sinks=[broken])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"at": ["conv", "nowhere"]}, SelectionError, "'nowhere' matches none of 6 operations"),
        ({"device": "warp9"}, ModelError, "there is no device 'warp9'; here there is cpu"),
        ({"mode": "test"}, ModelError, "mode is eval, train or as-is, not 'test'"),
        ({"batch_size": 0}, ModelError, "at least 1 image"),
        ({"side": "top"}, ImageError, "side is left, right or none"),
    ],
)
def test_a_setting_out_of_range_is_one_clear_line(
    model: nn.Module, photos: Path, tmp_path: Path, settings: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        surgery.extract(model, photos, out=tmp_path / "out", **settings)


def test_the_message_about_a_missing_input_names_the_option(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"Bilinear takes 2 inputs \(input1, input2\)"):
        surgery.extract(nn.Bilinear(1, 1, 1), photos, out=tmp_path)


def test_images_are_found_as_files_folders_and_patterns(photos: Path) -> None:
    (photos / "notes.txt").touch()
    assert [path.stem for path in find_images(photos)] == ["a", "b", "c"]
    assert [path.stem for path in find_images([f"{photos}/[bc].png", photos / "a.png"])] == ["b", "c", "a"]
    with pytest.raises(ImageError, match="no file matches"):
        find_images(f"{photos}/*.jpg")


def test_an_image_is_scaled_as_the_public_code_does() -> None:
    values = load_image(Path(__file__).parents[2] / "surgery/data/inputs/facade-1.png")
    assert values.shape == (1, 3, 256, 256)
    assert (values.min().item(), values.max().item()) == (-1, 1)


@pytest.mark.parametrize("kind", ["1", "L", "LA", "P", "RGBA", "I;16", "F", "CMYK"])
def test_images_of_every_kind_are_converted(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.tiff" if kind in ("F", "CMYK") else "x.png")
    if kind == "I;16":
        Image.fromarray(np.full((4, 4), 65535, np.uint16)).save(path)
    elif kind == "F":
        Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    elif kind == "RGBA":
        Image.new("RGBA", (4, 4), (9, 9, 9, 0)).save(path)
    else:
        Image.new("RGB", (4, 4), "white").convert(kind).save(path)
    assert (load_image(path) == 1).all()
    assert load_image(path, channels=1).shape == (1, 1, 4, 4)


def test_sides_are_cut_before_resizing(tmp_path: Path) -> None:
    pair = np.zeros((4, 9, 3), np.uint8)
    pair[:, 4:] = 255
    Image.fromarray(pair).save(tmp_path / "pair.png")
    assert (load_image(tmp_path / "pair.png", side="left", size=6) == -1).all()
    right = load_image(tmp_path / "pair.png", side="right", size=(2, 3), range=(0, 5))
    assert right.shape == (1, 3, 2, 3)
    assert (right == 5).all()


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (4, 8)).save(tmp_path / "x.jpg", exif=exif)
    assert load_image(tmp_path / "x.jpg").shape == (1, 3, 4, 8)


@pytest.mark.filterwarnings("default")
def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (50, 50)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(ImageError, match="pixels, Pillow's limit"):
        load_image(tmp_path / "x.png")


def spoiled(how: str) -> Any:
    """`surgery.trace`, but with a difference."""

    def trace(*arguments: Any, **options: Any) -> Any:
        traced = surgery.trace(*arguments, **options)
        output = next(node for node in traced.graph.nodes if node.op == "output")
        with traced.graph.inserting_before(output):
            output.args = (
                (traced.graph.call_function(torch.neg, output.args),) if how == "value" else ((output.args * 2),)
            )
        traced.recompile()
        return traced

    return trace


@pytest.mark.parametrize("mode", ["eval", "train", "as-is"])
def test_the_first_output_is_compared_with_the_original_on_request(
    mode: Any, model: nn.Module, photos: Path, tmp_path: Path
) -> None:
    surgery.extract(model, photos, out=tmp_path / "checked", mode=mode, check=True, sinks=[Npz()])
    surgery.extract(model, photos, out=tmp_path / "unchecked", mode=mode, check=False, sinks=[Npz()])
    assert "bit for bit" in manifest(tmp_path / "checked")["check"]
    assert "check" not in manifest(tmp_path / "unchecked")


def test_the_original_runs_on_the_first_batch_only(
    model: nn.Module, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[nn.Module] = []

    def copied(original: nn.Module, other: nn.Module) -> nn.Module:
        copies.append(copy_to_run(original, other))
        return copies[-1]

    monkeypatch.setattr("surgery.extraction.output_check.copy_to_run", copied)
    surgery.extract(model, photos, out=tmp_path / "out", check=True, batch_size=2, sinks=[])
    assert len(copies) == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [("value", "does not return the output of the original: the values differ"), ("more", "2 tensors")],
)
def test_a_different_output_ends_the_run_if_the_check_is_on(
    how: str, message: str, model: nn.Module, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.extraction.model_preparation.trace", spoiled(how))
    surgery.extract(model, photos, out=tmp_path / "unchecked", check=False)
    with pytest.raises(TraceError, match=message):
        surgery.extract(model, photos, out=tmp_path / "checked", check=True)
    assert not (tmp_path / "checked" / "manifest.json").exists()


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"mean": x.mean(), "maximum": x.amax()}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["mean"], "returns 1 tensor and the original 2"),
        (["maximum", "mean"], r"returns output\[maximum\] where the original returns output\[mean\]"),
    ],
)
def test_a_missing_output_and_another_order_are_told_apart(names: list[str], message: str) -> None:
    values = torch.rand(1, 1, 2, 2)
    outputs = TwoOutputs()(values)
    compare_with_original(TwoOutputs(), {"x": values}, outputs, torch.device("cpu"), seed=0)
    other = {name: outputs[name] for name in names}
    with pytest.raises(TraceError, match=message):
        compare_with_original(TwoOutputs(), {"x": values}, other, torch.device("cpu"), seed=0)


def test_as_is_keeps_modules_in_their_modes(model: nn.Module, photos: Path, tmp_path: Path) -> None:
    """A frozen batch norm in a model that trains, say."""
    model.train()
    model.norm.eval()
    with torch.no_grad():
        model.norm.running_mean.fill_(0.5)
    surgery.extract(model, photos, at="norm", out=tmp_path / "out", mode="as-is", check=True, sinks=[Npz()])
    value = exact(tmp_path / "out", "a")["norm"]
    x = load_image(photos / "a.png")
    expected = model.norm(model.conv(x)).detach().numpy()
    assert np.array_equal(value.reshape(expected.shape), expected)
    assert (model.training, model.norm.training) == (True, False)
