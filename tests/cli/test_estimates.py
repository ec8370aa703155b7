"""`surgery extract --dry-run`, and runs that don't fit on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from surgery.data import inputs


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What is free on the disk."""
    room = {"free": 1 << 30, "total": 1 << 40}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(**room))
    return room


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_dry_run_prints_a_table_that_fits_and_writes_nothing(
    run: Any, checkpoint: Path, room: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    before = sorted(tmp_path.iterdir())
    result = run("extract", checkpoint, inputs()[0], "--at", "op:cat", "--sink", "png", "--dry-run", "-o", "out")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["operation", "size", "files", "pixels", "values", "kind"]
    names = ["input", "up5.cat", "up4.cat", "up3.cat", "up2.cat", "output", "other"]
    assert [line.split()[0] for line in lines[1:8]] == names
    assert lines[1].split()[3:] == ["1", "1,024", "3,072", "input"]
    assert lines[8].split()[0] == "all"
    assert "out/  1 image, 7 files, at most about" in " ".join(lines)
    assert "free on the disk: 1.07 GB" in " ".join(result.out.split())
    assert sorted(tmp_path.iterdir()) == before


def test_json_has_the_numbers_of_each_model(run: Any, checkpoint: Path, room: dict[str, int], tmp_path: Path) -> None:
    second = checkpoint.with_name("1_net_G.pth")
    shutil.copy(checkpoint, second)
    chosen = ("--at", "op:cat", "--sink", "png", "-o", "out")
    result = run("extract", second, checkpoint, inputs()[0], *chosen, "--dry-run", "--sample", "1", "--json")
    assert (result.code, result.err) == (0, "")
    first, other = map(json.loads, result.out.splitlines())
    assert (first["folder"], other["folder"]) == (str(Path("out/1_net_G")), str(Path("out/latest_net_G")))
    assert run("extract", checkpoint, inputs()[0], *chosen).code == 0
    written = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert other["files"] == len(written) == sum(row["files"] for row in other["operations"])
    assert other["bytes"] == pytest.approx(sum(file.stat().st_size for file in written), rel=0.03)
    assert other["bytes_from"] == "sample"
    assert other["fits"] is True


def test_what_does_not_fit_is_one_line_and_an_exit_code(run: Any, checkpoint: Path, room: dict[str, int]) -> None:
    room["free"] = 1000
    command = ("extract", checkpoint, *inputs()[:2], "--at", "op:cat")
    for result in (run(*command, "--dry-run"), run(*command)):
        assert result.code == 1
        (line,) = result.err.splitlines()
        assert "its disk has 1 kB" in line
        assert "--force" in line
    assert run(*command, "--dry-run", "--force").code == 0
    assert run(*command, "--force").code == 0


@pytest.mark.parametrize("option", [["--sample", "2"], ["--json"]])
def test_options_of_a_dry_run_need_one(run: Any, option: list[str]) -> None:
    result = run("extract", *option)
    assert result.code == 2
    assert f"{option[0]} goes with --dry-run" in result.err
