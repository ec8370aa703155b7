"""Estimates against the files of real runs, and runs that don't fit on the disk."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.errors import ImageError, ModelError, OutputError, TraceError
from surgery.extraction.run_estimate import OTHER, format_seconds
from surgery.extraction.trial import Trial
from surgery.text import format_bytes


class Net(nn.Module):
    """Has an operation of the whole batch, the mean over it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 20, 3, padding=1)
        self.norm = nn.BatchNorm2d(20)
        self.head = nn.Conv2d(20, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu_(self.norm(self.conv(x)))
        return torch.tanh(self.head(h - h.mean(0, keepdim=True)[0]))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in "abcd":
        Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / f"{name}.png")
    return folder


def count_pixels(file: Path) -> int:
    if file.suffix != ".png":
        return 0
    with Image.open(file) as picture:
        return picture.width * picture.height


def written(folder: Path) -> tuple[dict[str, tuple[int, int, int]], int, int, int]:
    """Return what a run has written: values, pixels and files by operation, then pixels, files and bytes in all."""
    manifest = json.loads((folder / "manifest.json").read_text())
    rows: dict[str, tuple[int, int, int]] = {}
    for activation in (each for entry in manifest["images"] for each in entry["activations"]):
        names = [file["file"] for file in activation["files"]]
        values, pixels, files = rows.get(activation["path"], (0, 0, 0))
        own = sum(count_pixels(folder / name) for name in names)
        rows[activation["path"]] = values + math.prod(activation["shape"]), pixels + own, files + len(names)
    all_files = [file for file in folder.rglob("*") if file.is_file()]
    pixels = sum(map(count_pixels, all_files))
    return rows, pixels, len(all_files), sum(file.stat().st_size for file in all_files)


@pytest.mark.parametrize("sample", [0, 2])
@pytest.mark.parametrize(
    ("sinks", "batch_size"),
    [(("png", "sheet"), 1), (("png", "sheet"), 2), ("npz", 2), (("png", "page"), 1), ("stats", 1)],
)
def test_values_pixels_and_files_are_those_of_the_run(
    photos: Path, tmp_path: Path, sinks: Any, batch_size: int, sample: int
) -> None:
    settings: dict[str, Any] = {"sinks": sinks, "batch_size": batch_size, "out": tmp_path / "out"}
    model = Net()
    estimate = surgery.estimate(model, photos, sample=sample, **settings)
    assert not (tmp_path / "out").exists()
    surgery.extract(model, photos, **settings)
    rows, pixels, files, size = written(tmp_path / "out")
    assert {row.path: (row.values, row.pixels, row.files) for row in estimate.operations if row.path != OTHER} == rows
    assert (estimate.images, estimate.pixels, estimate.files) == (4, pixels, files)
    assert estimate.sample == sample
    if sample:
        assert estimate.bytes == pytest.approx(size, rel=0.03)
        assert (estimate.seconds_per_image or 0) > 0
        assert estimate.memory > 50_000_000
    else:
        assert 0.97 * size < estimate.bytes < 2 * size
        assert estimate.seconds_per_image is estimate.seconds is None


def test_files_of_a_whole_batch_are_counted_by_batches(photos: Path, tmp_path: Path) -> None:
    (photos / "d.png").unlink()
    settings: dict[str, Any] = {"sinks": "png", "batch_size": 2, "output": False, "at": "mean"}
    estimate = surgery.estimate(Net(), photos, **settings)
    surgery.extract(Net(), photos, out=tmp_path / "out", **settings)
    rows, _, files, _ = written(tmp_path / "out")
    (mean,) = (row for row in estimate.operations if row.path == "mean")
    assert (mean.values, mean.files) == rows["mean"][::2]
    assert (mean.files, estimate.files) == (2, files)


class Vast(nn.Module):
    """Computes a value of 160 GB on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.interpolate(self.conv(x), size=(100_000, 100_000))[:, :, :8, :8])


def test_a_model_that_fits_on_no_machine_here_is_estimated_without_running(photos: Path) -> None:
    estimate = surgery.estimate(Vast(), photos, at=["conv", "head"])
    assert [(row.path, row.values) for row in estimate.operations[:-1]] == [
        ("input", 4 * 3 * 24 * 32),
        ("conv", 4 * 4 * 24 * 32),
        ("head", 4 * 2 * 64),
        ("output", 4 * 2 * 64),
    ]
    assert 160e9 < estimate.memory < 160.1e9


def test_memory_is_what_weights_and_values_need_that_are_alive_at_once(photos: Path) -> None:
    model = nn.Sequential(*(nn.Conv2d(3 if not number else 8, 8, 1, bias=False) for number in range(6)))
    weights = 4 * (3 * 8 + 5 * 64)
    value = 4 * 8 * 24 * 32
    image = 4 * 3 * 24 * 32
    # The caller holds the image; of six values two live at once, since each is freed when the next is computed.
    assert surgery.estimate(model, photos).memory == weights + image + 2 * value


def test_the_model_stays_as_it_was(photos: Path) -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.get_rng_state()
    surgery.estimate(model, photos, mode="train")
    assert torch.equal(torch.get_rng_state(), expected)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


class Asks(nn.Module):
    """Has a graph, but needs a value to run."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x > 0].reshape(1, -1)


class Branches(nn.Module):
    """Has no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return -h if h.sum() > 0 else h * 2


@pytest.mark.parametrize(
    ("model", "settings", "error"),
    [
        (Asks(), {}, ModelError),
        (Branches(), {}, TraceError),
        (Net(), {"front_end": "observed"}, TraceError),
        (Net(), {"gradients": "output"}, ModelError),
        (Net(), {"edits": ["conv = zero"], "reference": "photos"}, ModelError),
    ],
)
def test_what_needs_a_run_of_the_model_asks_for_a_sample(
    photos: Path, model: nn.Module, settings: dict[str, Any], error: type[Exception]
) -> None:
    if "reference" in settings:
        settings = {**settings, "reference": photos}
    with pytest.raises(error, match=r"--sample 2 \(sample=2\) runs two images"):
        surgery.estimate(model, photos, **settings)


def test_an_observed_model_is_estimated_from_a_sample(photos: Path, tmp_path: Path) -> None:
    model = Branches()
    estimate = surgery.estimate(model, photos, sample=2, gradients="output")
    surgery.extract(model, photos, gradients="output", out=tmp_path / "out")
    rows, pixels, files, size = written(tmp_path / "out")
    assert (len(estimate.operations) - 1, estimate.pixels, estimate.files) == (len(rows), pixels, files)
    assert estimate.bytes == pytest.approx(size, rel=0.03)


def test_seconds_leave_out_the_start_if_the_sample_has_several_batches(photos: Path) -> None:
    assert surgery.estimate(Net(), photos, sample=2).notes == ()
    (note,) = surgery.estimate(Net(), photos, sample=1).notes
    assert "start" in note
    trial = Trial(4, runs_model=True, started=1.0, ended=11.0, first_batch=(5.0, 2))
    assert (trial.seconds_per_image(4), trial.seconds_per_image(2)) == (3.0, 5.0)


def test_wrong_arguments_are_errors_of_one_line(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="0 images or more, not -1"):
        surgery.estimate(Net(), photos, sample=-1)
    (tmp_path / "bad.png").write_bytes(b"none")
    with pytest.raises(ImageError, match=r"bad\.png: "):
        surgery.estimate(Net(), tmp_path / "bad.png")
    with pytest.raises(ImageError, match="the shard has no image: the run has fewer batches than shards"):
        surgery.estimate(Net(), photos, shard=(1, 5))
    with pytest.raises(TypeError, match="colour"):
        surgery.estimate(Net(), photos, colour="red")


class Store:
    """A sink that keeps a description, and a file for each activation, in a directory of its own."""

    @contextmanager
    def __call__(self, folder: surgery.OutputFolder, /) -> Iterator[Any]:
        with folder.directory("store") as path:
            path.mkdir(exist_ok=True)
            (path / "zarr.json").write_text("{}")

            def write(activation: surgery.Activation) -> None:
                (path / f"{activation.image}-{activation.path}").write_bytes(bytes(100))

            yield write


@pytest.mark.parametrize("sample", [0, 2])
def test_the_chunks_of_a_store_grow_with_the_images_and_its_description_does_not(
    photos: Path, tmp_path: Path, sample: int
) -> None:
    estimate = surgery.estimate(Net(), photos, at="conv", sinks=Store(), sample=sample)
    surgery.extract(Net(), photos, at="conv", sinks=Store(), out=tmp_path / "out")
    assert estimate.files == written(tmp_path / "out")[2] == 3 * 4 + 2


def leave_free(monkeypatch: pytest.MonkeyPatch, free: int, total: int = 1 << 40) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free, total=total))


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_does_not_fit_says_so_after_its_first_batch(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    model, out = Net(), tmp_path / "out"
    settings: dict[str, Any] = {"sinks": "png", "jobs": jobs, "out": out}
    leave_free(monkeypatch, 50_000)
    with pytest.raises(OutputError, match=r"3 images take about .* kB in .*out, and its disk has 50 kB; .*--force"):
        surgery.extract(model, photos, **settings)
    finished = json.loads((out / "manifest.json").read_text())["images"]
    assert 1 <= len(finished) <= (1 if jobs == 1 else 4), "the other worker may do the others meanwhile"
    leave_free(monkeypatch, 1 << 30)
    report = surgery.extract(model, photos, **settings)
    assert (report.images, report.finished_before) == (4, len(finished))


def test_force_goes_on_and_so_does_a_run_on_a_disk_that_tells_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(monkeypatch, 0)
    assert surgery.extract(Net(), photos, out=tmp_path / "forced", force=True).images == 4
    assert not surgery.estimate(Net(), photos).fits
    leave_free(monkeypatch, 0, total=0)
    assert surgery.extract(Net(), photos, out=tmp_path / "unknown").images == 4
    estimate = surgery.estimate(Net(), photos)
    assert estimate.fits
    assert (estimate.free_bytes, estimate.explain_lack_of_space()) == (None, None)
    assert "free on the disk: unknown" in repr(estimate)


def test_an_estimate_is_a_table_in_a_notebook(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_free(monkeypatch, 1000)
    estimate = surgery.estimate(Net(), photos, at="conv", out="<b>")
    assert repr(estimate).startswith("Estimate('<b>': 4 images, 17 files, at most about ")
    html = estimate._repr_html_()
    assert re.search(r">conv</td><td[^>]*>conv2d</td><td[^>]*>61440</td>", html)
    assert "&lt;b&gt;" in html
    assert "its disk has 1 kB" in html
    assert estimate.records()[1]["files"] == 4


def test_bytes_and_seconds_have_units_that_fit() -> None:
    assert [format_bytes(size) for size in (0, 812, 999, 999.6, 4_070_000, 10**14, 10**19)] == [
        "0 B", "812 B", "999 B", "1 kB", "4.07 MB", "100 TB", "10000 PB",
    ]  # fmt: skip
    assert [format_seconds(each) for each in (0.5, 42, 120, 7200)] == ["0.5 s", "42 s", "2 min", "2 h"]
