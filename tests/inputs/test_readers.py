"""Readers: tensors in files, and images with the preprocessing of a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import surgery
from surgery.builtin.readers import TensorReader
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.errors import ImageError
from surgery.inputs.image_loading import load_image
from surgery.inputs.image_search import find_images
from surgery.plugins.registry import Plugins
from surgery.stages import Preprocessing
from tests.distributions import plugin

IMAGENET = Preprocessing((224, 224), crop=0.875, interpolation="bilinear")


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul(1)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)).save(file)
    return file


@pytest.mark.parametrize("shape", [(1, 5, 4, 6), (5, 4, 6), (4, 6)])
@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors", "pt", "pth"])
def test_a_tensor_is_read_from_every_kind_of_file(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    values = torch.randn(*shape, dtype=torch.float64)
    file = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(file, values.numpy())
    elif suffix == "npz":
        np.savez(file, values=values.numpy())
    elif suffix == "safetensors":
        save_file({"values": values}, file)
    else:
        torch.save(values if suffix == "pt" else {"values": values}, file)
    read = TensorReader()(file)
    assert read.dtype == torch.float32
    assert torch.equal(read, values.float().reshape((1,) * (4 - len(shape)) + shape))


def test_the_key_names_one_of_several_tensors(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, one=np.ones((2, 3)), two=np.zeros((2, 3), np.uint8))
    assert torch.equal(TensorReader("two")(file), torch.zeros(1, 1, 2, 3))
    with pytest.raises(ImageError, match=r"x.npz holds one, two; name one: tensor:key=NAME"):
        TensorReader()(file)
    with pytest.raises(ImageError, match=r"x.npz has no 'three'; there is one, two"):
        TensorReader("three")(file)
    assert Plugins().resolve("reader", "tensor:key=two") == TensorReader("two")


def test_a_file_without_a_tensor_is_one_clear_line(tmp_path: Path) -> None:
    def message(name: str, content: Any) -> str:
        file = tmp_path / name
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            np.save(file, content, allow_pickle=True)
        with pytest.raises(ImageError) as caught:
            TensorReader()(file)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is not a file of tensors: .npy, .npz, .safetensors, .pt, .pth" in message("x.png", b"")
    assert "can't read" in message("x.npy", b"no")
    assert "Object arrays cannot be loaded" in message("y.npy", np.array([print], dtype=object))
    assert "holds torch.complex128, not a tensor of real numbers" in message("z.npy", np.ones((2, 2), complex))
    for shape in ((3,), (2, 3, 4, 5), (1, 0, 4, 5), (1, 1, 3, 4, 5)):
        assert f"holds {shape}, and one input is (1, C, H, W)" in message("s.npy", np.ones(shape))
    assert "can't read" in message("x.pt", b"no")
    with pytest.raises(ImageError, match="there is no file"):
        TensorReader()(tmp_path / "gone.npy")


def test_tensors_are_taken_from_a_folder_and_given_to_the_model(run: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).normal(size=(2, 5, 8, 8)).astype(np.float32) * 7
    for number in range(2):
        np.save(tmp_path / "in" / f"x{number}.npy", values[number])
    (tmp_path / "in" / "note.txt").write_text("no")
    np.save(tmp_path / "in" / "y.npy", np.ones(3))
    text = "import surgery\ndef wide():\n import torch; return torch.nn.Conv2d(5, 2, 1)\n"
    text += "@surgery.hookimpl\ndef surgery_models(): return {'wide': wide}\n"
    arguments = ["extract", "wide", "in", "--plugin", plugin(tmp_path, text), "--sink", "npz", "--sink", "png"]
    result = run(*arguments, "--reader", "tensor", "--batch-size", "2")
    assert result.code == 1
    assert result.err == (
        "surgery: note: in: 1 other file is left out: note.txt\n"
        "surgery: note: wide is untrained: its weights are random (seed 0), none were loaded\n"
        "surgery: in/y.npy holds (3,), and one input is (1, C, H, W), (C, H, W) or (H, W)\n"
        "surgery: 1 of 3 images failed\n"
    )
    for number in range(2):
        assert np.array_equal(np.load(f"activations/x{number}/activations.npz")["input"], values[number])
        with Image.open(f"activations/x{number}/000-input.png") as image:
            assert image.mode == "P"  # five channels of any range are no image
    manifest = json.loads(Path("activations/manifest.json").read_text())
    assert manifest["settings"]["reader"] == "TensorReader(key=None)"
    assert run(*arguments, "--reader", "tensor", "--size", "8").err == (
        "surgery: size and side are options of the image reader; set options of TensorReader(key=None) instead\n"
    )
    assert "the folder in has no image in it" in run(*arguments).err


def test_a_tensor_within_the_range_of_images_is_drawn_as_one(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(-1, 1, (3, 8, 8)))
    np.save(tmp_path / "y.npy", np.random.default_rng(0).uniform(-9, 9, (3, 8, 8)))
    surgery.extract(Same(), tmp_path / "*.npy", out=tmp_path / "out", reader=TensorReader(), sinks=[Png()])
    modes = []
    for name in "xy":
        with Image.open(tmp_path / "out" / name / "000-input.png") as image:
            modes.append(image.mode)
    assert modes == ["RGB", "P"]


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (lambda path: 1 / 0, "can't read .*photo.png: ZeroDivisionError: division by zero"),
        (lambda path: [1, 2], r"must return a tensor \(1, ...\), or several by name, for .*photo.png, not list"),
        (lambda path: torch.ones(3, 4), r"not \(3, 4\) torch.float32"),
        (lambda path: torch.ones(2, 3, 4, 4), r"not \(2, 3, 4, 4\) torch.float32"),
        (lambda path: torch.ones(1, 3, 0, 4), r"not \(1, 3, 0, 4\) torch.float32"),
        (lambda path: torch.tensor(1), r"not \(\) torch.int64"),
        (lambda path: {}, "must return a tensor .*photo.png, not dict"),
        (lambda path: {"x": 1}, "must return a tensor .*photo.png, not int"),
    ],
)
def test_a_reader_that_fails_fails_for_its_image_alone(photo: Path, tmp_path: Path, reader: Any, message: str) -> None:
    np.save(tmp_path / "x.npy", np.ones((3, 4, 4)))

    def read(path: Path) -> Any:
        return reader(path) if path == photo else TensorReader()(path)

    report = surgery.extract(Same(), [photo, tmp_path / "x.npy"], out=tmp_path / "out", reader=read, sinks=[])
    assert report.images == 1
    (failure,) = report.failed
    assert re.search(message, failure.reason)


def test_find_images_selects_files_by_suffix(tmp_path: Path) -> None:
    for name in ("a.npy", "b.png", "c.NPY"):
        (tmp_path / name).touch()
    assert [path.name for path in find_images(tmp_path, (".npy",))] == ["a.npy", "c.NPY"]
    with pytest.raises(ImageError, match=r"has no file in .pt, .pth in it"):
        find_images(tmp_path, (".pt", ".pth"))


@pytest.mark.parametrize("size", [(30, 41), (41, 30), (300, 500), (256, 256), (17, 900)])
@pytest.mark.parametrize(("around", "side"), [(256, 224), (342, 299), (232, 224), (354, 224)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocessing_does_what_torchvision_does(
    tmp_path: Path, size: tuple[int, int], around: int, side: int, interpolation: Any
) -> None:
    from torchvision import transforms

    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    own = Preprocessing((side, side), crop=side / around, interpolation=interpolation)
    theirs = transforms.Compose(
        [
            transforms.Resize(around, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(side),
            transforms.ToTensor(),
            transforms.Normalize(own.mean, own.std),
        ]
    )
    assert torch.equal(load_image(tmp_path / "x.png", preprocessing=own)[0], theirs(Image.fromarray(pixels)))


def test_preprocessing_takes_another_size_a_half_and_gray(photo: Path) -> None:
    assert load_image(photo, preprocessing=IMAGENET, size=(40, 50)).shape == (1, 3, 40, 50)
    assert load_image(photo, preprocessing=IMAGENET, size="native", side="left").shape == (1, 3, 30, 20)
    gray = Preprocessing((8, 8), (0.5,), (0.25,))
    values = load_image(photo, preprocessing=gray, size="native")
    with Image.open(photo) as image:
        expected = (np.asarray(image.convert("L")) / 255 - 0.5) / 0.25
    assert np.allclose(values[0, 0], expected, atol=1e-6)
    assert load_image(photo, preprocessing=Preprocessing((10, 40))).shape == (1, 3, 10, 40)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (0, 8)}, r"size of a preprocessing is \(height, width\), at least 1, not \(0, 8\)"),
        ({"crop": 0}, "crop of a preprocessing is above 0 and at most 1, not 0"),
        ({"crop": 1.1}, "at most 1, not 1.1"),
        ({"std": (1.0, 1.0)}, "a mean and a positive std for 3 channels or 1"),
        ({"std": (1.0, 1.0, 0.0)}, "a positive std"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, "3 channels or 1"),
        ({"stretch": True, "crop": 0.9}, "stretches images does not crop them: crop is 1, not 0.9"),
        ({"pair_side": "both"}, "the side of a pair is one of none, left, right, left,right, right,left, not 'both'"),
        ({"lightness": True}, "lightness is one channel, and this preprocessing has 3"),
        ({"interpolation": "area"}, "is one of nearest, box, bilinear, bicubic, lanczos, not 'area'"),
    ],
)
def test_an_impossible_preprocessing_is_one_clear_line(settings: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        Preprocessing(**{"size": (8, 8), **settings})


def test_a_run_applies_the_preprocessing_of_a_model(photo: Path, tmp_path: Path) -> None:
    model = Same()
    model.preprocessing = Preprocessing((16, 24), (0.2, 0.4, 0.6), (0.1, 0.5, 0.9), 0.8)  # type: ignore[assignment]
    surgery.extract(model, photo, out=tmp_path / "out", sinks=[Npz(), Png()])
    given = np.load(tmp_path / "out" / "photo" / "activations.npz")["input"]
    assert np.array_equal(given, load_image(photo, preprocessing=model.preprocessing)[0])  # type: ignore[arg-type]
    plain = Preprocessing((16, 24), (0.0,) * 3, (1.0,) * 3, 0.8)
    colors = load_image(photo, preprocessing=plain)[0].permute(1, 2, 0).numpy() * 255
    with Image.open(tmp_path / "out" / "photo" / "000-input.png") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.rint(colors))
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
    assert np.allclose(note["low"], [-2, -0.8, -0.6 / 0.9])
    assert np.allclose(note["high"], [8, 1.2, 0.4 / 0.9])
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert settings["range"] is None
    assert settings["preprocessing"]["mean"] == [0.2, 0.4, 0.6]


def test_a_requested_range_takes_precedence_over_the_preprocessing(photo: Path, tmp_path: Path) -> None:
    model = Same()
    model.preprocessing = IMAGENET  # type: ignore[assignment]
    surgery.extract(model, photo, out=tmp_path / "out", sinks=[Npz()], range=(0, 1))
    given = np.load(tmp_path / "out" / "photo" / "activations.npz")["input"]
    assert np.array_equal(given, load_image(photo, range=(0, 1))[0])


def test_models_of_torchvision_carry_the_preprocessing_of_their_weights() -> None:
    assert surgery.load_model("torchvision/resnet18").preprocessing == IMAGENET
    inception = surgery.load_model("torchvision/inception_v3").preprocessing
    assert isinstance(inception, Preprocessing)
    assert (inception.size, int(299 / inception.crop + 1e-6)) == ((299, 299), 342)
    assert not hasattr(surgery.load_model("torchvision/r3d_18"), "preprocessing")


def test_a_model_of_torchvision_gets_the_input_it_was_trained_on(run: Any, photo: Path) -> None:
    result = run("extract", "torchvision/squeezenet1_1", photo, "--at", "features.0", "--sink", "npz", "--no-output")
    assert result.code == 0, result.err
    given = np.load("activations/photo/activations.npz")["input"]
    assert np.array_equal(given, load_image(photo, preprocessing=IMAGENET)[0])
    shapes = {
        entry["path"]: entry["tensors"] for entry in json.loads(run("inspect", "torchvision/resnet18", "--json").out)
    }
    assert shapes["conv1"][0]["shape"] == [1, 64, 112, 112]


def test_a_stretched_image_has_the_pixels_that_tensorflow_takes(photo: Path) -> None:
    own = Preprocessing((16, 64), (0.0,) * 3, (1.0,) * 3, interpolation="nearest", stretch=True)
    pixels = np.asarray(Image.open(photo), np.float32) / 255
    rows = ((np.arange(16) + 0.5) * 30 / 16).astype(int)  # tf.image.resize with method "nearest"
    columns = ((np.arange(64) + 0.5) * 41 / 64).astype(int)
    assert np.array_equal(load_image(photo, preprocessing=own)[0].permute(1, 2, 0), pixels[rows][:, columns])


def test_a_network_that_takes_a_half_of_a_pair_is_given_it(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pair.png")
    Image.fromarray(pixels[:, :20]).save(tmp_path / "one.png")
    one = Preprocessing((20, 20), stretch=True, pair_side="right")
    both = Preprocessing((20, 20), stretch=True, pair_side="right,left")
    left, right = (load_image(tmp_path / "pair.png", preprocessing=one, side=side) for side in ("left", "right"))
    assert torch.equal(load_image(tmp_path / "pair.png", preprocessing=one), right)
    assert torch.equal(load_image(tmp_path / "pair.png", preprocessing=both), torch.cat([right, left], 1))
    assert torch.equal(load_image(tmp_path / "one.png", preprocessing=one), left)
    assert load_image(tmp_path / "pair.png", preprocessing=one, size=(20, 40)).shape == (1, 3, 20, 40)
    with pytest.raises(ImageError, match=r"one.png is not an AB pair, .* and the model takes both halves of one"):
        load_image(tmp_path / "one.png", preprocessing=both)


def test_a_run_says_that_it_read_a_half_and_draws_both(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "pair.png")
    model: Any = Same()
    for side, said in (("right", "the right half is"), ("right,left", "the right and the left half are")):
        model.preprocessing = Preprocessing((20, 20), stretch=True, pair_side=side)
        report = surgery.extract(model, tmp_path / "pair.png", out=tmp_path / said, sinks=[Png()])
        assert any(f"it is read as an AB pair: {said} the input of this network" in note for note in report.notes)
        assert len(list((report.folder / "pair").glob("000-input*.png"))) == 1


def test_lightness_is_that_of_cielab(tmp_path: Path) -> None:
    known = {(255, 255, 255): 100.0, (0, 0, 0): 0.0, (255, 0, 0): 53.24, (0, 0, 255): 32.30, (119, 119, 119): 50.03}
    Image.fromarray(np.array([list(known)], np.uint8)).save(tmp_path / "colors.png")
    own = Preprocessing((1, 5), (0.0,), (1.0,), stretch=True, lightness=True)
    values = load_image(tmp_path / "colors.png", preprocessing=own)
    assert values.shape == (1, 1, 1, 5)
    assert values.flatten().mul(100).tolist() == pytest.approx(list(known.values()), abs=0.02)
