"""Runs of models that have no graph: they take another way from image to image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.errors import RenderError, TraceError
from surgery.rewriting import stop_after_last_extractor


class Branch(nn.Module):
    """Takes bright images and dark images through different layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bright = nn.Conv2d(4, 3, 1)
        self.dark = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        if x.mean() > 0:
            return self.bright(h)
        return self.dark(torch.relu(h))


@pytest.fixture
def make_images(tmp_path: Path) -> Any:
    """Return a function that makes gray images of given brightnesses from 0 to 255, and returns their folder."""

    def make(*levels: int, size: int = 8) -> Path:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for number, level in enumerate(levels):
            pixels = np.full((size, size, 3), level, np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        return folder

    return make


def test_the_first_image_is_the_example_of_a_model_that_only_observing_takes(tmp_path: Path, make_images: Any) -> None:
    report = surgery.extract(Branch(), make_images(10), out=tmp_path / "out")
    assert [summary.operation.path for summary in report.summaries] == [
        *("input", "stem", "mean", "gt", "relu", "dark", "output")
    ]


def test_a_first_image_that_the_model_cant_take_is_one_failure_among_others(tmp_path: Path, make_images: Any) -> None:
    folder = make_images(10, 20, 30)
    Image.new("RGB", (3, 3)).save(folder / "0.png")
    model = nn.Sequential(nn.Conv2d(3, 3, 5), nn.ReLU())
    report = surgery.extract(model, folder, out=tmp_path / "out")
    assert (report.images, [Path(failure.path).name for failure in report.failed]) == (2, ["0.png"])
    with pytest.raises(TraceError, match=r"the example of shape \(1, 3, 3, 3\) does not run: "):
        surgery.extract(model, folder, out=tmp_path / "other", front_end="observed")


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def images_of(folder: Path) -> list[Any]:
    """Return the entries of images in a manifest, without those of batches."""
    return [entry for entry in manifest_of(folder)["images"] if "name" in entry]


def paths(image: Any) -> list[str]:
    return [activation["path"] for activation in image["activations"]]


@pytest.mark.parametrize("jobs", [1, 2])
def test_images_that_take_another_way_say_what_they_did_not_reach(tmp_path: Path, make_images: Any, jobs: int) -> None:
    report = surgery.extract(Branch(), make_images(10, 250, 20, 240, 30), out=tmp_path / "out", jobs=jobs, sinks="png")
    assert report.not_reached == {"relu": 2, "dark": 2}
    assert report.way_notes() == [
        "relu, dark were not reached for 2 of 5 images",
        "bright is new: the run of the example did not have it",
    ]
    assert [(summary.operation.path, summary.operation.is_new) for summary in report.summaries][-3:] == [
        *(("dark", False), ("output", False), ("bright", True))
    ]
    manifest = manifest_of(tmp_path / "out")
    assert [image.get("not_reached") for image in images_of(tmp_path / "out")] == [
        *[None, ["relu", "dark"]] * 2,
        None,
    ]
    assert [entry["path"] for entry in manifest["operations"] if entry.get("is_new")] == ["bright"]
    assert paths(images_of(tmp_path / "out")[1]) == ["input", "stem", "bright", "output"]
    assert (tmp_path / "out" / "1" / "007-bright.png").is_file()
    assert surgery.verify(tmp_path / "out").sound


def test_a_run_that_goes_one_way_says_nothing(tmp_path: Path, make_images: Any) -> None:
    report = surgery.extract(Branch(), make_images(10, 20), out=tmp_path / "out", at="stem | relu")
    assert (dict(report.not_reached), report.way_notes()) == ({}, [])
    assert all("not_reached" not in image for image in images_of(tmp_path / "out"))
    report = surgery.extract(Branch(), make_images(10, 250, 20), out=tmp_path / "other", at="relu")
    assert report.way_notes() == ["relu was not reached for 1 of 3 images"]


class Loop(nn.Module):
    """Runs its layer one to five times, which depends on the image, and another layer at the end of long runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        turns = int((x.mean() + 1) * 2)
        for _ in range(1 + turns):
            x = torch.tanh(self.layer(x))
        return self.last(x) if turns > 2 else x


def test_the_turns_of_a_loop_are_numbered_in_each_run(tmp_path: Path, make_images: Any) -> None:
    report = surgery.extract(Loop(), make_images(70, 5, 250), out=tmp_path / "out", at="op:conv2d")
    first, short, long = images_of(tmp_path / "out")
    assert paths(first) == ["input", "layer", "layer@1", "output"]
    assert (paths(short), short["not_reached"]) == (["input", "layer", "output"], ["layer@1"])
    assert paths(long) == ["input", "layer", "layer@1", "layer@2", "layer@3", "last", "output"]
    assert [summary.operation.path for summary in report.summaries] == [
        *("input", "layer", "layer@1", "output", "layer@2", "layer@3", "last")
    ]


def test_new_operations_have_the_same_names_and_numbers_whatever_the_number_of_jobs(
    tmp_path: Path, make_images: Any
) -> None:
    images = make_images(5, 250, 190, 120, 250, 80)
    results = []
    for jobs in (1, 2, 3):
        out = tmp_path / f"out{jobs}"
        surgery.extract(Loop(), images, out=out, at="*", jobs=jobs, sinks="png", check=False)
        manifest = manifest_of(out)
        files = sorted(file.relative_to(out).as_posix() for file in out.rglob("*.png"))
        indices = [[(each["path"], each["index"]) for each in image["activations"]] for image in manifest["images"]]
        results.append((files, indices, [(each["path"], each["index"]) for each in manifest["operations"]]))
    assert results[0] == results[1] == results[2]


class Detector(nn.Module):
    """Finds boxes, and looks at each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 1, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        found = []
        for scores in torch.sigmoid(self.backbone(x))[:, 0]:
            places = (scores > scores.mean()).nonzero()[:3]
            boxes = [torch.cat([place, place + 2]).to(x.dtype) for place in places]
            found.append({f"box{number}": self.head(box) for number, box in enumerate(boxes)})
        return found


def test_a_detector_numbers_the_boxes_that_it_found(tmp_path: Path) -> None:
    torch.manual_seed(0)
    (tmp_path / "images").mkdir()
    even = np.full((8, 8, 3), 100, np.uint8)
    spotted = even.copy()
    spotted[1, 1] = spotted[5, 5] = 255
    for name, pixels in (("0", spotted), ("1", even), ("2", 255 - spotted)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    for batch_size in (1, 3):
        out = tmp_path / f"out{batch_size}"
        report = surgery.extract(
            Detector(), tmp_path / "images", out=out, at="head*", sinks="npz", batch_size=batch_size
        )
        assert report.images == 3
        assert report.failed == ()
    counts = []
    for entry in manifest_of(tmp_path / "out1")["images"]:
        heads = [path for path in paths(entry) if path.startswith("head")]
        assert heads == ["head", "head@1", "head@2"][: len(heads)]
        counts += [len(heads)] if heads else []
    assert set(counts) == {2, 3}


class Guarded(nn.Module):
    """Catches whatever is raised, and then does something else."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.first, self.second, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 5:
            return x
        try:
            return self.second(self.first(x))
        except BaseException as error:
            if self.how == "raises":
                raise ValueError("in the model") from error
            return self.other(x)


@pytest.mark.parametrize("how", ["catches", "raises"])
def test_a_run_without_output_ends_even_if_the_model_catches_everything(
    tmp_path: Path, make_images: Any, how: str
) -> None:
    out = tmp_path / "out"
    report = surgery.extract(Guarded(how), make_images(10, 20), out=out, at="first | other", output=False)
    assert (report.images, report.failed) == (2, ())
    assert [paths(image) for image in images_of(out)] == [["input", "first"]] * 2
    traced = surgery.trace(Guarded(how), torch.zeros(1, 3, 4, 4))
    opened = stop_after_last_extractor(surgery.insert(traced, surgery.select(traced, "first | other")))
    assert opened(torch.zeros(1, 3, 4, 4)) is None
    assert [activation.path for activation in surgery.record(opened, torch.zeros(1, 3, 4, 4))] == ["first"]


@pytest.mark.parametrize("how", ["catches", "raises"])
def test_the_error_of_a_sink_ends_the_run_even_if_the_model_catches_it(
    tmp_path: Path, make_images: Any, how: str
) -> None:
    seen = []

    @contextmanager
    def sink(_folder: surgery.OutputFolder) -> Iterator[Any]:
        def write(activation: surgery.Activation) -> None:
            seen.append(activation.path)
            if activation.path == "first":
                raise RenderError("no")

        yield write

    with pytest.raises(RenderError, match=r"^at first of 0: no$"):
        surgery.extract(Guarded(how), make_images(10, 20), out=tmp_path / "out", sinks=[sink])
    assert seen == ["input", "mean", "gt", "first"]


def test_an_image_at_which_the_model_fails_half_way_is_left_out(tmp_path: Path, make_images: Any) -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            h = torch.relu(x)
            if x.mean() > 0.5:
                raise ValueError("too bright")
            return h, {"sum": h.sum((2, 3)), "parts": torch.aminmax(h, dim=1).max}

    report = surgery.extract(Fails(), make_images(10, 250, 20), out=tmp_path / "out", sinks="npz", batch_size=1)
    assert [failure.reason for failure in report.failed] == ["the model does not take it as (1, 3, 8, 8): too bright"]
    assert report.way_notes() == []
    first, last = images_of(tmp_path / "out")
    expected = ["input", "relu", "sum", "aminmax[0]", "aminmax[1]", "output[0]", "output[1][sum]"]
    assert paths(first) == paths(last)
    assert set(expected) <= set(paths(first))


def test_the_manifest_and_the_report_say_how_the_model_was_traced(tmp_path: Path, make_images: Any) -> None:
    report = surgery.extract(Branch(), make_images(10), out=tmp_path / "out")
    assert report.trace is not None
    assert report.trace.front_end == "observed"
    assert any(note.startswith("observed: ") and note.endswith("; reach 100%") for note in report.notes)
    trace = manifest_of(tmp_path / "out")["trace"]
    assert trace == {
        "front_end": "observed",
        "is_verified": True,
        "reason": report.trace.reason,
        "reach": {"seen": 5, "total": 5, "unseen_modules": []},
    }
    report = surgery.extract(nn.ReLU(), make_images(10), out=tmp_path / "other")
    assert report.notes == ()
    assert manifest_of(tmp_path / "other")["trace"] == {"front_end": "symbolic", "is_verified": True}


class CountingRuns(nn.Module):
    """Gives each run another result, if it is not begun anew."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.conv(x) * self.runs if x.sum() < 1e9 else x


def test_what_python_keeps_does_not_go_from_image_to_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / f"{name}.png")
    surgery.extract(CountingRuns(), [tmp_path / "a.png", tmp_path / "b.png"], out=tmp_path / "out", sinks=["npz"])
    contents = []
    for name in ("a", "b"):
        with np.load(next((tmp_path / "out" / name).glob("*.npz"))) as archive:
            contents.append(dict(archive))
    first, second = contents
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)
