"""Watchers are called during a run, and do not disturb it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.builtin.sinks.tensor_archives import Npz
from surgery.extraction.watchers import WatcherList
from surgery.output import Report, RunStart, Watcher


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file in files:
        Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).save(file)
    return files


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))


def test_a_watcher_is_called_at_the_start_with_each_activation_and_at_the_end(
    model: nn.Module, photos: list[Path], tmp_path: Path
) -> None:
    calls: list[Any] = []
    watcher = Watcher(
        "me", calls.append, lambda activation: calls.append((activation.image, activation.path)), calls.append
    )
    report = surgery.extract(model, photos[:2], at="op:conv2d", out=tmp_path / "out", sinks=[], watchers=[watcher])
    start, *activations, end = calls
    assert isinstance(start, RunStart)
    assert (start.folder, tuple(start.images)) == (tmp_path / "out", tuple(photos[:2]))
    assert [operation.path for operation in start.operations] == ["0"]
    assert (start.about["mode"], start.about["normalizer"]) == ("eval", "MinMax(per='channel')")
    assert activations == [(image, path) for image in "ab" for path in ("input", "0", "output")]
    assert end == report
    assert isinstance(end, Report)


def test_a_watcher_that_raises_is_not_called_again_and_the_run_goes_on(
    model: nn.Module, photos: list[Path], tmp_path: Path
) -> None:
    called: list[str] = []

    def raises(value: object) -> None:
        called.append(type(value).__name__)
        raise KeyError(type(value).__name__)

    def files(folder: Path) -> dict[str, dict[str, list[float]]]:
        found = sorted(folder.glob("*/activations.npz"))
        return {file.parent.name: {name: values.tolist() for name, values in np.load(file).items()} for file in found}

    surgery.extract(model, photos, out=tmp_path / "plain", sinks=[Npz()])
    watchers = [
        Watcher("start", started=raises, activation=raises, finished=raises),
        Watcher("activation", activation=raises, finished=raises),
        Watcher("end", finished=raises),
    ]
    report = surgery.extract(model, photos, out=tmp_path / "watched", sinks=[Npz()], watchers=watchers)
    assert called == ["RunStart", "Activation", "Report"]
    assert [line.partition(" (")[0] for line in report.warnings] == [
        "start raised KeyError: 'RunStart'",
        "activation raised KeyError: 'Activation'",
        "end raised KeyError: 'Report'",
    ]
    assert all("test_watchers.py:" in line for line in report.warnings)
    assert len(report.summaries) == 4
    assert len(files(tmp_path / "plain")) == 3
    assert files(tmp_path / "watched") == files(tmp_path / "plain")


def test_no_function_is_called_with_activations_if_no_watcher_wants_them() -> None:
    assert WatcherList([]).writes == []
    assert WatcherList([Watcher("me", started=print, finished=print)]).writes == []


def test_watchers_are_not_called_at_the_end_of_a_run_that_raises(
    model: nn.Module, photos: list[Path], tmp_path: Path
) -> None:
    calls: list[Any] = []

    def sink(folder: object) -> Any:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        surgery.extract(
            model, photos, out=tmp_path, sinks=[sink], watchers=[Watcher("me", calls.append, finished=calls.append)]
        )
    assert [type(value) for value in calls] == [RunStart]


def test_a_watcher_sees_values_before_later_operations_overwrite_them(
    model: nn.Sequential, photos: list[Path], tmp_path: Path
) -> None:
    seen: dict[str, torch.Tensor] = {}
    watcher = Watcher("me", activation=lambda activation: seen.__setitem__(activation.path, activation.values.clone()))
    surgery.extract(model, photos[0], out=tmp_path / "out", sinks=[], watchers=[watcher])
    before = model[0](surgery.load_image(photos[0]))[0]
    assert torch.equal(seen["0"], before)  # the ReLU behind it works in place
    assert torch.equal(seen["1"], before.relu())
