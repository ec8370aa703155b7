"""Runs that measure activations, and what a traced model says about its operations to measures."""

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
from torch.nn import functional as F

import surgery
from surgery.builtin.pattern_measures import Checkerboard
from surgery.drawing import apply_measure
from surgery.errors import MeasureError, RenderError
from surgery.extraction.measured_operations import find_measured_operations
from surgery.types import Activation


class Decoder(nn.Module):
    """Halves twice, doubles three times, each time in another way, and ends in a tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 4, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 8, 4, stride=2, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.last = nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.norm(self.down(x))
        x = F.avg_pool2d(skip, 2)
        x = self.up(x)
        x = torch.cat([x[:, :4], skip], 1)
        return torch.tanh(F.interpolate(self.last(self.shuffle(x)), scale_factor=4.0))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Decoder().eval()


def measured(folder: Path) -> dict[str, Any]:
    (image,) = json.loads((folder / "manifest.json").read_text())["images"]
    return {entry["path"]: entry.get("measures", {}) for entry in image["activations"]}


def test_the_upsampling_of_an_operation_is_the_last_one_before_it(model: nn.Module) -> None:
    traced = surgery.trace(model, torch.zeros(1, 3, 32, 32))
    found = find_measured_operations(traced)
    factors = {path: each.upsampling for path, each in found.items()}
    assert factors["down"] is factors["norm"] is factors["avg_pool2d"] is None
    assert factors["up"] == factors["cat"] == factors["shuffle"] == factors["last"] == 2
    assert factors["interpolate"] == factors["tanh"] == factors["output"] == 4
    assert found["norm"].module is traced.get_submodule("norm")
    assert found["cat"].module is None


def test_an_observed_model_says_what_its_graph_would(model: nn.Module) -> None:
    observed = surgery.trace(model, torch.zeros(1, 3, 32, 32), front_end="observed")
    found = find_measured_operations(observed)
    assert found["up"].upsampling == 2
    assert isinstance(found["norm"].module, nn.BatchNorm2d)


def test_a_run_records_what_it_measures_of_each_value(tmp_path: Path, photo: Path, model: nn.Module) -> None:
    measures = ["checkerboard", "rank", "mode-gap", "saturated:within=0.1"]
    surgery.extract(model, photo, out=tmp_path / "out", measures=measures)
    found = measured(tmp_path / "out")
    traced = surgery.trace(model)
    recorded = surgery.record(surgery.insert(traced, surgery.operations(traced)), surgery.load_image(photo))
    values = {activation.path: activation.values for activation in recorded}
    assert found["up"]["checkerboard"] == pytest.approx(Checkerboard(2)(values["up"])[0].tolist(), rel=1e-5)
    assert found["tanh"]["checkerboard"] == pytest.approx(Checkerboard(4)(values["tanh"])[0].tolist(), rel=1e-5)
    assert found["output"]["checkerboard"] == found["tanh"]["checkerboard"]
    assert [len(found["up"][name]) for name in ("checkerboard", "rank")] == [8, 1]
    assert {path for path, numbers in found.items() if "mode-gap" in numbers} == {"norm"}
    assert {path for path, numbers in found.items() if "saturated:within=0.1" in numbers} == {"tanh", "output"}
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert list(settings["measures"]) == measures
    assert settings["measures"]["rank"]["unit"] == "channels"


def test_numbers_that_there_are_none_of_are_none(tmp_path: Path, photo: Path, model: nn.Module) -> None:
    def half(maps: Tensor) -> Tensor:
        numbers = maps.double().mean((2, 3))
        return numbers.where(torch.arange(maps.shape[1]) % 2 == 0, math.nan)

    surgery.extract(model, photo, at="down", out=tmp_path / "out", measures=half, sinks=["npz"])
    ((name, numbers),) = measured(tmp_path / "out")["down"].items()
    assert name.endswith("half")
    assert [number is None for number in numbers] == [False, True, False, True]


def test_sinks_get_the_numbers_and_several_images_each_their_own(tmp_path: Path, photo: Path, model: nn.Module) -> None:
    Image.new("RGB", (32, 32)).save(photo.with_name("black.png"))
    seen: list[Activation] = []

    surgery.extract(
        *(model, [photo, photo.with_name("black.png")]),
        at="down",
        batch_size=2,
        output=False,
        out=tmp_path / "out",
        measures="constant",
        sinks=[_listening(seen)],
    )
    by_image = {each.image: each.measures["constant"].tolist() for each in seen if each.path == "input"}
    assert by_image == {"photo": [0, 0, 0], "black": [1, 1, 1]}


def _listening(seen: list[Activation]) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def sink(folder: Any) -> Any:
        yield seen.append

    return sink


def test_the_sheet_has_room_for_what_was_measured(tmp_path: Path, photo: Path, model: nn.Module) -> None:
    for name, measures in (("with", ["checkerboard"]), ("without", [])):
        surgery.extract(model, photo, at="up", out=tmp_path / name, measures=measures, sinks=["sheet"])
    files = [tmp_path / name / "photo" / "sheet.png" for name in ("with", "without")]
    one, other = (np.asarray(Image.open(file)).astype(int) for file in files)
    different = np.argwhere(np.abs(one - other).sum(2))
    assert len(different) > 100
    assert different[:, 1].max() < 340  # left of the pictures, in the labels


def test_a_run_of_several_processes_measures_the_same(tmp_path: Path, photo: Path, model: nn.Module) -> None:
    for number in range(3):
        Image.new("RGB", (32, 32), (number * 90, 0, 0)).save(tmp_path / f"photo-{number}.png")
    files = sorted(tmp_path.glob("photo-*.png"))
    images = []
    for jobs in (1, 2):
        out = tmp_path / f"out-{jobs}"
        surgery.extract(model, files, out=out, measures=["sparsity", "grid"], sinks=["png"], jobs=jobs)
        images.append(json.loads((out / "manifest.json").read_text())["images"])
    assert images[0] == images[1]
    assert images[0][0]["activations"][0]["measures"]["grid"]


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda maps: 1 / 0, r"measure .* can't take \(1, 4, 16, 16\): .*division by zero"),
        (lambda maps: maps.zero_().mean((2, 3)), r"measure .* writes to its input, which is memory of the model"),
        (lambda maps: maps.mean(1), r"measure .* has to return \(1, 4\) or \(1, 1\), not \(1, 16, 16\)"),
        (lambda maps: 0.5, r"measure .* has to return \(B, C\) float64, not float"),
    ],
)
def test_a_measure_that_breaks_its_promise_is_one_line(
    tmp_path: Path, photo: Path, model: nn.Module, measure: Any, message: str
) -> None:
    with pytest.raises(MeasureError, match=message) as caught:
        surgery.extract(model, photo, at="down", out=tmp_path / "out", measures=[_of_four(measure)])
    assert "\n" not in str(caught.value)


def _of_four(measure: Any) -> Any:
    """A measure that keeps its promise for the inputs of the model, of 3 channels."""

    def checked(maps: Tensor) -> Any:
        return maps.double().mean((2, 3)) if maps.shape[1] == 3 else measure(maps)

    return checked


def test_what_is_no_measure_is_refused_before_anything_runs(tmp_path: Path, photo: Path, model: nn.Module) -> None:
    with pytest.raises(RenderError, match="a measure is a name, such as 'checkerboard:stride=4', or a function, not 3"):
        surgery.extract(model, photo, out=tmp_path / "out", measures=[3])  # type: ignore[list-item]


def test_numbers_of_a_measure_come_as_float64_on_the_cpu() -> None:
    numbers = apply_measure(lambda maps: maps.mean((2, 3)), torch.ones(2, 3, 4, 4))
    assert (numbers.dtype, tuple(numbers.shape)) == (torch.float64, (2, 3))


def test_the_command_line_measures_too(run: Any, tmp_path: Path) -> None:
    result = run(*("extract", "--at", "up4.*", "--measure", "checkerboard", "--measure", "dead", "--sink", "png"))
    assert result.code == 0, result.err
    numbers = measured(tmp_path / "activations")["up4.deconv"]
    assert list(numbers) == ["checkerboard", "dead"]
    assert max(numbers["checkerboard"]) == numbers["checkerboard"][13] > 0.6
    wrong = run("extract", "--measure", "chekerboard", "-o", "wrong")
    assert (wrong.code, wrong.err.count("\n")) == (1, 1)
    assert "did you mean 'checkerboard'?" in wrong.err
