"""The folder of a comparison: tables, sheets, and pictures whose pixels are read back."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.comparison.compare_pictures import ChannelPictures
from surgery.comparison.kept_maps import THUMBNAIL, KeptMaps
from surgery.comparison.side_by_side import StepValues
from surgery.errors import OutputError
from surgery.types import NAN, Operation


def make(seed: int, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 3, 3, padding=1), nn.Tanh()).eval()
    with torch.no_grad():
        model[2].weight.mul_(scale)
    return model


def photos(count: int = 2, side: int = 16) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def read(file: Path) -> tuple[Any, dict[str, Any]]:
    """The codes of a picture, and its text."""
    with Image.open(file) as picture:
        assert picture.mode == "P"
        return np.asarray(picture), json.loads(picture.text["surgery"])  # type: ignore[attr-defined]


def values_of(file: Path) -> Any:
    codes, note = read(file)
    low, high = note["low"][0], note["high"][0]
    return low + codes / 250 * (high - low)


def test_each_pixel_is_read_back_and_the_runs_share_their_limits(tmp_path: Path) -> None:
    seen: dict[str, list[Tensor]] = {}

    def keep(image: Any, step: Any) -> None:
        if image.number == 0:
            seen[step.operation.path] = [value[0].clone() for value in step.values]

    runs = [surgery.Run(make(0), "one"), surgery.Run(make(0, 1.5), "two"), surgery.Run(make(0, 0.5), "three")]
    found = surgery.compare(runs, photos(), out=tmp_path / "out", on_step=keep)
    folder = tmp_path / "out/0"
    files = sorted(folder.glob("003-2-*.png"))
    assert len(files) == 2 * (3 + 2)
    first, two, three = seen["2"]
    for channel in sorted({int(file.stem.split("-")[2]) for file in files}):
        notes = []
        for name, value in (("one", first), ("two", two), ("three", three)):
            _, note = read(folder / f"003-2-{channel}-{name}.png")
            notes.append((note["low"], note["high"]))
            step = (note["high"][0] - note["low"][0]) / 250
            error = np.abs(values_of(folder / f"003-2-{channel}-{name}.png") - value[channel].numpy()).max()
            assert error <= step / 2 * 1.01
            assert (note["run"], note["operation"], note["channel"]) == (name, "2", channel)
        assert notes[0] == notes[1] == notes[2]
        for name, value in (("two", two), ("three", three)):
            _, note = read(folder / f"003-2-{channel}-{name}-difference.png")
            assert note["low"][0] == -note["high"][0]
            assert note["minus"] == "one"
            difference = (value - first)[channel].numpy()
            error = np.abs(values_of(folder / f"003-2-{channel}-{name}-difference.png") - difference).max()
            assert error <= note["high"][0] / 250 * 1.01
    assert found.sheet == folder / "sheet.png"


def test_the_most_changed_channels_of_the_most_changed_operations_are_drawn(tmp_path: Path) -> None:
    model, other = make(0), make(0)
    with torch.no_grad():
        next(other[0].parameters())[4] += 1
    surgery.compare([model, other], photos(1), out=tmp_path / "out", top=1, channels=1)
    drawn = [file.name for file in (tmp_path / "out/0").glob("0*.png")]
    assert len(drawn) == 3
    surgery.compare([model, other], photos(1), at="0", out=tmp_path / "two", top=4, channels=3)
    assert {file.name.split("-")[2] for file in (tmp_path / "two/0").glob("0*.png")} == {"4"}


def test_equal_runs_draw_no_differences(tmp_path: Path) -> None:
    found = surgery.compare([make(0), make(0)], photos(1), out=tmp_path / "out")
    names = sorted(file.name for file in (tmp_path / "out/0").iterdir())
    assert names == ["output-Sequential.png", "output-Sequential_2_.png", "sheet.png"]
    assert found.first_different() is None


def test_tables_have_a_row_for_each_operation_and_run(tmp_path: Path) -> None:
    found = surgery.compare([make(0), make(0, 2), make(0, 3)], photos(), out=tmp_path / "out")
    content = json.loads((tmp_path / "out/compared.json").read_text())
    with (tmp_path / "out/compared.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(content["operations"]) == len(found.rows) == 8
    assert [row["operation"] for row in rows] == [row.operation.path for row in found.rows]
    assert float(rows[4]["own"]) == found.rows[4].own == content["operations"][4]["own"]
    assert content["first_different"] == {found.runs[1]: "2", found.runs[2]: "2"}
    assert not surgery.verify(tmp_path / "out").faults


def test_three_runs_or_more_have_a_timeline_and_many_have_no_sheet_of_pairs(tmp_path: Path) -> None:
    for count, sheets in ((2, {"sheet"}), (3, {"sheet", "timeline"}), (5, {"timeline"})):
        out = tmp_path / str(count)
        runs = [surgery.Run(make(0, 1 + place / 10), str(place)) for place in range(count)]
        found = surgery.compare(runs, photos(1), out=out)
        assert {file.stem for file in (out / "0").glob("*.png")} & {"sheet", "timeline"} == sheets
        with Image.open(str(found.sheet)) as page:
            assert page.mode == "RGB"
            assert page.width >= 900


def test_a_folder_that_holds_a_run_is_kept_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    runs = [make(0), make(1)]
    surgery.compare(runs, photos(1), out=tmp_path / "out")
    with pytest.raises(OutputError, match="out"):
        surgery.compare(runs, photos(1), out=tmp_path / "out")
    surgery.compare(runs, photos(1), out=tmp_path / "out", overwrite=True, top=0)
    assert not list((tmp_path / "out/0").glob("0*.png"))
    with pytest.raises(OutputError, match="channels is 0 or more, not -1"):
        surgery.compare(runs, photos(1), channels=-1)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_keeps_the_images_that_are_finished(tmp_path: Path) -> None:
    def press(image: Any, _step: Any) -> None:
        if image.number == 1:
            os.kill(os.getpid(), signal.SIGINT)

    found = surgery.compare([make(0), make(1)], photos(3), out=tmp_path / "out", on_step=press)
    assert found.interrupted
    assert found.images == 1
    assert [each.name for each in (tmp_path / "out").iterdir() if each.is_dir()] == ["0"]
    assert json.loads((tmp_path / "out/manifest.json").read_text())["interrupted"]


def test_an_error_after_an_image_is_raised_when_the_files_are_complete(tmp_path: Path) -> None:
    def fail(image: Any, _step: Any) -> None:
        if image.number == 1:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        surgery.compare([make(0), make(1)], photos(2), out=tmp_path / "out", on_step=fail)
    assert json.loads((tmp_path / "out/compared.json").read_text())["images"] == 1


def test_values_that_are_not_finite_have_their_own_codes() -> None:
    first, second = torch.zeros(2, 2), torch.tensor([[1.0, torch.nan], [torch.inf, -2.0]])
    pictures = ChannelPictures([first, second])
    assert pictures.limits == (-2.0, 1.0)
    assert pictures.difference_limits == (-2.0, 2.0)
    codes = pictures.draw_differences()[0].pixels
    assert codes.tolist() == [[188, NAN], [254, 0]]


def step_of(index: int, values: list[Tensor]) -> StepValues:
    return StepValues(Operation(f"op{index}", f"op{index}", "conv2d", index), values, [None] * 2, [False] * 2)


def test_few_maps_are_kept_however_many_operations_there_are() -> None:
    kept = KeptMaps(lambda _place, _operation, value: value, 2, 3, means=True)
    first = torch.ones(1, 8, 200, 100)
    for index in range(1, 7):
        kept.add(step_of(index, [first, first + torch.rand(first.shape) * index]))
    assert [each.operation.index for each in kept.operations] == [5, 6]
    assert all(len(each.channels) == 3 for each in kept.operations)
    sizes = [channel.maps[0].untyped_storage().nbytes() for each in kept.operations for channel in each.channels]
    assert sizes == [200 * 100 * 4] * 6  # of a copy of the channel, and not of the value
    assert {tuple(maps.shape) for each in kept.means for maps in each.maps} == {(THUMBNAIL, THUMBNAIL // 2)}


def test_channels_that_an_operation_passes_on_are_drawn_once() -> None:
    kept = KeptMaps(lambda _place, _operation, value: value, 8, 2, means=False)
    one, two = torch.rand(1, 2, 4, 4), torch.rand(1, 2, 4, 4)
    kept.add(step_of(1, [one, two]))
    kept.add(step_of(2, [torch.cat([one, one], 1), torch.cat([two, one], 1)]))
    assert [each.operation.index for each in kept.operations] == [1]


def test_images_of_their_own_are_paired_by_their_number(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    for name in ("a", "b", "c"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    own = [str(tmp_path / f"{name}.png") for name in ("a", "broken", "c")]
    images = [str(tmp_path / f"{name}.png") for name in ("a", "b", "c")]
    model = make(0)
    found = surgery.compare([surgery.Run(model, "one"), surgery.Run(model, "two", images=own)], images)
    assert found.images == 2
    assert [Path(failure.path).name for failure in found.failed] == ["broken.png"]
    assert found.first_different() is None
