"""Several checkpoints in one command of `extract`: a run each, and one page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery.data import inputs


@pytest.fixture
def epochs(tmp_path: Path, checkpoint: Path) -> Path:
    """A folder with two epochs of a training, and an image beside it."""
    folder = tmp_path / "epochs"
    folder.mkdir()
    for number in (10, 9):
        shutil.copy(checkpoint, folder / f"{number}_net_G.pth")
    shutil.copy(inputs()[0], tmp_path / "photo.png")
    return folder


def labels(page: Path) -> list[str]:
    text = (page.parent / "page" / "run.js").read_text(encoding="utf-8")
    return [run["label"] for run in json.loads(text[text.index("(") + 1 : text.rindex(")")])["runs"]]


def test_each_checkpoint_has_a_run_and_the_page_shows_them_in_the_order_of_their_numbers(
    run: Any, epochs: Path, tmp_path: Path
) -> None:
    files = sorted(epochs.glob("*.pth"))
    result = run("extract", *files, "photo.png", "--at", "op:cat", "--size", "32", "--page", "-o", "out")
    assert result.code == 0
    rows = [line.split()[:2] for line in result.out.splitlines() if line.startswith("out/")]
    assert rows == [["out/9_net_G/", "1"], ["out/10_net_G/", "1"]]
    assert result.out.endswith("\nlook at out/index.html\n")
    assert labels(tmp_path / "out" / "index.html") == ["9_net_G", "10_net_G"]
    for name in ("9_net_G", "10_net_G"):
        assert run("verify", f"out/{name}").code == 0
    assert run("view", "out", "--no-open").out == "out/index.html\n"
    assert labels(tmp_path / "out" / "index.html") == ["9_net_G", "10_net_G"]


def test_a_pattern_in_quotes_stands_for_the_checkpoints(run: Any, epochs: Path, tmp_path: Path) -> None:
    assert run("extract", "epochs/*.pth", "photo.png", "--at", "up5.cat", "--size", "32").code == 0
    assert {path.name for path in (tmp_path / "activations").iterdir()} == {"9_net_G", "10_net_G"}


def test_checkpoints_of_one_name_are_told_apart_by_their_folders(run: Any, epochs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(epochs / "9_net_G.pth", tmp_path / name / "latest.pth")
    assert run("extract", "a/latest.pth", "b/latest.pth", "photo.png", "--at", "up5.cat", "--size", "32").code == 0
    assert {path.name for path in (tmp_path / "activations").iterdir()} == {"a", "b"}


def test_a_checkpoint_that_can_not_be_loaded_does_not_stop_the_others(run: Any, epochs: Path, tmp_path: Path) -> None:
    (epochs / "11_net_G.pth").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    result = run("extract", "epochs/*.pth", "photo.png", "--at", "up5.cat", "--size", "32", "--page")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "11_net_G.pth is a git-LFS pointer" in result.err
    assert labels(tmp_path / "activations" / "index.html") == ["9_net_G", "10_net_G"]


def test_a_folder_that_holds_another_run_is_reported_and_stays(run: Any, epochs: Path, tmp_path: Path) -> None:
    arguments = ("photo.png", "--size", "32", "--at", "up5.cat")
    assert run("extract", "epochs/10_net_G.pth", *arguments, "--seed", "7", "-o", "activations/10_net_G").code == 0
    manifest = (tmp_path / "activations" / "10_net_G" / "manifest.json").read_bytes()
    result = run("extract", "epochs/*.pth", *arguments)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "activations/10_net_G holds another run: " in result.err
    assert (tmp_path / "activations" / "10_net_G" / "manifest.json").read_bytes() == manifest
    assert (tmp_path / "activations" / "9_net_G" / "manifest.json").exists()
    assert run("extract", "epochs/*.pth", *arguments, "--overwrite").code == 0


def test_a_checkpoint_after_an_image_is_one_line(run: Any, epochs: Path) -> None:
    result = run("extract", "epochs/9_net_G.pth", "photo.png", "epochs/10_net_G.pth")
    assert result.code == 2
    assert "models come before images: move epochs/10_net_G.pth before photo.png" in result.err


def test_a_file_of_another_kind_or_with_a_reader_is_an_input(run: Any, checkpoint: Path, tmp_path: Path) -> None:
    for name in ("x.pt", "x.pth"):
        torch.save(torch.zeros(1, 3, 32, 32), tmp_path / name)
    assert run("extract", checkpoint, "x.pt", "--at", "up5.cat", "-o", "one").code == 0
    assert run("extract", checkpoint, "x.pth", "--at", "up5.cat", "--reader", "tensor", "-o", "two").code == 0
    assert [(tmp_path / out / "x").is_dir() for out in ("one", "two")] == [True, True]
