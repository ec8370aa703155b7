from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from surgery_video.__main__ import main
from surgery_video.comparisons import animate_comparison
from torch import nn

import surgery
from surgery.errors import OutputError


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "compared"
    runs = []
    for number, name in enumerate(("5", "10", "latest")):
        torch.manual_seed(number)
        runs.append(surgery.Run(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()), name=name))
    surgery.compare(runs, torch.rand(2, 3, 8, 8) * 2 - 1, out=folder, top=1, channels=1)
    return folder


def frames_of(file: Path) -> list[NDArray[np.uint8]]:
    with Image.open(file) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def test_the_frames_are_the_pictures_of_the_runs_in_order(compared: Path, tmp_path: Path) -> None:
    written = animate_comparison(compared, tmp_path / "videos", fps=2)
    assert len(written) == 4  # the output and one channel, for each of two images
    for file in written:
        pictures = [compared / file.parent.name / f"{file.stem}-{run}.png" for run in ("5", "10", "latest")]
        frames = frames_of(file)
        assert len(frames) == 3
        for frame, picture in zip(frames, pictures, strict=True):
            with Image.open(picture) as expected:
                assert np.array_equal(frame, np.asarray(expected.convert("RGB")))


def test_the_command_says_what_it_wrote_and_what_it_can_not_read(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code, message in [
        ((str(compared), "out", "--format", "webp"), 0, "out: 4 animations"),
        ((str(tmp_path), "out"), 1, "has no comparison in it: no compared.json that can be read"),
        ((str(compared), "out", "--fps", "nan"), 1, "fps is 0.1 to 100, not nan"),
        ((str(compared), str(compared / "compared.csv")), 1, "can't write "),
    ]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["surgery_video", *arguments])
        assert main() == code
        printed = capsys.readouterr()
        assert message in printed.out + printed.err
    damaged = Path(shutil.copytree(compared, tmp_path / "damaged"))
    for picture in damaged.rglob("*.png"):
        picture.write_bytes(picture.read_bytes()[:-30])
    with pytest.raises(OutputError, match=r"^can't read .*\.png: "):
        animate_comparison(damaged, tmp_path / "videos")
    assert not [file for file in tmp_path.rglob("*") if file.suffix == ".part" or file.parent.name == "videos"]
    (tmp_path / "compared.json").write_text('{"runs": ["a", "b"]}')
    with pytest.raises(OutputError, match=r"no pictures of two runs or more$"):
        animate_comparison(tmp_path, tmp_path / "videos")
