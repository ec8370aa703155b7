"""Models of several inputs: which files are read for them, and what the output says about it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.readers import TensorReader
from surgery.builtin.sinks.png import Png
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.errors import ImageError, ModelError
from surgery.inputs.image_reader import ImageReader


class Masked(nn.Module):
    """An inpainting network, which takes an image and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.conv(torch.cat([image, mask], 1))


class Optional(Masked):
    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            mask = torch.zeros_like(image[:, :1])
        return super().forward(image, mask)


class MaskFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, mask: Tensor, image: Tensor) -> Tensor:
        return self.conv(torch.cat([image, mask], 1))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images a, b, c with masks of the same names, in reversed order of brightness, and masks of other names."""
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks", "others"):
        Path(folder).mkdir()
    for number, name in enumerate("abc"):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(f"images/{name}.png")
        Image.new("L", (8, 8), 255 - 100 * number).save(f"masks/{name}.png")
        Image.new("L", (8, 8), 100 * number).save(f"others/{2 - number}_mask.png")
    return tmp_path


def given(folder: str | Path, name: str, path: str) -> Any:
    return np.load(Path(folder) / name / "activations.npz")[path]


@pytest.mark.parametrize("kind", [Masked, MaskFirst])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_files_of_the_same_names_are_matched(files: Path, kind: type[nn.Module], batch_size: int) -> None:
    model = kind().eval()
    report = surgery.extract(
        model, "images", inputs={"mask": "masks"}, out="out", sinks=[Npz(), Png()], batch_size=batch_size, check=True
    )
    assert (report.images, report.failed, report.notes) == (3, (), ())
    for number, name in enumerate("abc"):
        mask = given("out", name, "input.mask")
        assert mask.shape == (1, 8, 8)
        assert np.allclose(mask, (255 - 100 * number) / 127.5 - 1, atol=1e-6)
        image = torch.from_numpy(given("out", name, "input"))
        expected = model.conv(torch.cat([image, torch.from_numpy(mask)])[None])[0]
        assert torch.allclose(torch.from_numpy(given("out", name, "conv")), expected, atol=1e-6)
        assert (files / "out" / name / "000-input.png").exists()
        assert (files / "out" / name / "000-input.mask.png").exists()
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["check"].endswith("bit for bit")
    assert list(manifest["settings"]["inputs"]) == ["mask"]


def test_files_of_other_names_are_matched_in_order_and_noted(files: Path) -> None:
    report = surgery.extract(Masked(), "images", inputs={"mask": "others/*.png"}, out="out", sinks=[Npz()])
    assert [round(float(given("out", name, "input.mask")[0, 0, 0] * 127.5 + 127.5)) for name in "abc"] == [200, 100, 0]
    (note,) = report.notes
    assert "the files of mask have other names than the images, and belong to them in order" in note


def test_one_file_belongs_to_all_images(files: Path) -> None:
    surgery.extract(Masked(), "images", inputs={"mask": "masks/a.png"}, out="out", sinks=[Npz()], batch_size=3)
    assert all((given("out", name, "input.mask") == 1).all() for name in "abc")


def test_an_input_has_a_reader_of_its_own(files: Path) -> None:
    np.savez("m.npz", m=np.full((8, 8), 7.0), other=np.zeros((8, 8)))
    surgery.extract(
        Masked(), "images", inputs={"mask": "m.npz"}, readers={"mask": TensorReader("m")}, out="x", sinks=[Npz()]
    )
    assert (given("x", "a", "input.mask") == 7).all()
    surgery.extract(
        Masked(),
        "images",
        inputs={"mask": "masks/b.png"},
        readers={"mask": ImageReader(low=0, high=1)},
        out="y",
        sinks=[Npz()],
        size=4,
    )
    assert given("y", "a", "input.mask").shape == (1, 4, 4)
    assert np.allclose(given("y", "a", "input.mask"), 155 / 255)


@pytest.mark.parametrize(
    ("inputs", "readers", "error", "message"),
    [
        ({}, {}, ModelError, r"Masked takes 2 inputs \(image, mask\); give mask too: --input mask=FILES"),
        (
            {"image": "images", "mask": "masks"},
            {},
            ModelError,
            r"takes 2 inputs \(image, mask\); one of them takes the images: leave out --input NAME=FILES for that one",
        ),
        ({"msk": "masks"}, {}, ModelError, "has no input 'msk'; it has image, mask; did you mean 'mask'"),
        ({"mask": ["masks/a.png", "masks/b.png"]}, {}, ImageError, "mask has 2 files for 3 images"),
        ({"mask": "nowhere/*.png"}, {}, ImageError, "no file matches nowhere"),
        ({"mask": "masks"}, {"image": TensorReader()}, ModelError, "there is a reader for image, and no files"),
    ],
)
def test_inputs_that_do_not_fit_are_one_clear_line(
    files: Path, inputs: Any, readers: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        surgery.extract(Masked(), "images", inputs=inputs, readers=readers, out="out")
    assert "\n" not in str(caught.value)
    assert not Path("out").exists()


def test_a_file_that_can_not_be_read_fails_for_its_image_alone(files: Path) -> None:
    Path("masks/b.png").write_bytes(b"no")
    report = surgery.extract(Masked(), "images", inputs={"mask": "masks"}, out="out", sinks=[Npz()])
    assert report.images == 2
    (failure,) = report.failed
    assert failure.path == "images/b.png"
    assert "masks/b.png is not an image that can be read" in failure.reason


def test_an_optional_input_is_passed_to_the_model(files: Path) -> None:
    without = surgery.extract(Optional().eval(), "images/a.png", out="x", sinks=[Npz()])
    assert "input.mask" not in {finding.operation.path for finding in without.summaries}
    model = Optional().eval()
    surgery.extract(model, "images", inputs={"mask": "masks"}, out="y", sinks=[Npz()], check=True)
    mask = torch.from_numpy(given("y", "b", "input.mask"))
    expected = model.conv(torch.cat([torch.from_numpy(given("y", "b", "input")), mask])[None])[0]
    assert torch.allclose(torch.from_numpy(given("y", "b", "conv")), expected, atol=1e-6)


def test_the_command_line_gives_several_inputs(run: Any, files: Path) -> None:
    sys.modules["nets_of_inputs"] = type(sys)("nets_of_inputs")
    sys.modules["nets_of_inputs"].Masked = Masked  # type: ignore[attr-defined]
    np.save("m.npy", np.full((1, 8, 8), 3.0))
    common = ("extract", "nets_of_inputs:Masked", "images", "--sink", "npz")
    for jobs in (1, 2):
        result = run(*common, "--input", "mask=masks", "--jobs", jobs, "-o", jobs)
        assert result.code == 0, result.err
        assert (given(str(jobs), "a", "input.mask") == 1).all()
    result = run(*common, "--input", "mask=m.npy", "--reader", "mask=tensor", "-o", "x")
    assert result.code == 0, result.err
    assert (given("x", "c", "input.mask") == 3).all()
    assert "--input mask=FILES" in run(*common, "-o", "y").err
    assert run(*common, "--input", "mask").code == 2


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_record_takes_inputs_by_name(front_end: Any) -> None:
    image, mask = torch.randn(1, 3, 8, 8), torch.randn(1, 1, 8, 8)
    for model, inputs in ((Masked().eval(), (image, mask)), (MaskFirst().eval(), (mask, image))):
        traced = surgery.trace(model, inputs, front_end=front_end)
        opened = surgery.insert(traced, surgery.select(traced, "*"))
        by_position = surgery.record(opened, *inputs)[-1].values
        assert torch.equal(by_position, surgery.record(opened, image=image, mask=mask)[-1].values)
        assert torch.equal(by_position, surgery.record(opened, mask=mask, image=image)[-1].values)
        name = "mask" if model.__class__ is Masked else "image"
        rest = {name: mask if name == "mask" else image}
        assert torch.equal(by_position, surgery.record(opened, inputs[0], **rest)[-1].values)
        for wrong in ({"image": image}, {"image": image, "msk": mask}, {"image": image, "mask": mask, "more": mask}):
            with pytest.raises(ModelError, match=r"takes .*; it is given 0 by position and image") as caught:
                surgery.record(opened, **wrong)
            assert ("did you mean 'mask'" in str(caught.value)) == ("msk" in wrong)
        for surplus in ((), (image, mask, mask)):
            message = rf"^{type(model).__name__} takes .*; it is given {len(surplus)} by position and none by name$"
            with pytest.raises(ModelError, match=message):
                surgery.record(opened, *surplus)


class Branches(nn.Module):
    """A model that can't be traced symbolically, with a parameter that has a default and any others."""

    def forward(self, x: Tensor, scale: Tensor | None = None, **more: Tensor) -> dict[str, Any]:
        if x.sum() > 0:
            x = x.neg()
        return {"x": x if scale is None else x.mul(scale), "more": [value.exp() for value in more.values()]}


def test_record_gives_an_observed_model_what_its_example_had_not() -> None:
    traced = surgery.trace(Branches(), torch.ones(2))
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    paths = [
        activation.path for activation in surgery.record(opened, torch.ones(2), scale=torch.ones(2), y=torch.ones(1))
    ]
    assert paths == ["sum", "gt", "neg", "mul", "exp"]


class Pairs(nn.Module):
    def forward(self, pairs: list[tuple[Tensor, Tensor]], options: dict[str, Tensor]) -> Tensor:
        return pairs[0][0].add(pairs[1][1]).mul(options["scale"])


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_record_takes_nested_inputs(front_end: Any) -> None:
    inputs: Any = ([(torch.ones(1), torch.ones(1)), (torch.ones(2), torch.ones(2))], {"scale": torch.full((1,), 3.0)})
    traced = surgery.trace(Pairs(), inputs, front_end=front_end)
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    last = surgery.record(opened, inputs[0], options=inputs[1])[-1]
    assert (last.path, last.values.tolist()) == ("mul", [6, 6])
