"""`surgery patch`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import surgery
from surgery.cli.study_view import patch_view
from surgery.data import inputs


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    for name in "ab":
        Image.fromarray(random.integers(0, 256, (256, 256, 3), np.uint8)).save(tmp_path / f"{name}.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def test_values_of_one_image_are_put_into_the_run_of_another(run: Any, tmp_path: Path) -> None:
    a, b = inputs()[:2]
    result = run("patch", "facades", a, b, "--at", "op:cat")
    assert (result.code, result.err) == (0, "")
    rows = [line.split() for line in result.out.splitlines() if line.startswith("up")]
    assert rows[0][:3] == ["up2.cat", "█" * 24, "100.0%"]
    assert {row[0] for row in rows} == {f"up{number}.cat" for number in range(2, 9)}
    assert result.out.rstrip().endswith("look at patched/facade-1/sheet.png")
    assert (tmp_path / "patched/facade-1/a.png").is_file()
    assert run("verify", "patched").code == 0
    content = json.loads((tmp_path / "patched/patches.json").read_text())
    study = surgery.patch(surgery.load_model("facades"), a, b, at="op:cat")
    assert [row["share"] for row in content["rows"]] == [row.share for row in study]


def test_the_options_are_those_of_the_function(run: Any, pair: tuple[Path, Path], tmp_path: Path) -> None:
    result = run(
        *("patch", "facades", *pair, "--at", "up3.cat", "--each", "group:8", "--order", "execution", "--top", 2),
        *("--batch", 2, "-o", "out"),
    )
    assert result.code == 0
    content = json.loads((tmp_path / "out/patches.json").read_text())
    assert [row["channels"] for row in content["rows"]] == ["0-7", "8-15", "16-23", "24-31"]
    assert "and 2 more, in the tables in the folder" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png"),
        (["b.png", "--at", "nothing"], "nothing"),
        (["b.png", "--each", "layer"], "each is operation"),
        (["b.png", "--size", "native"], "a is 256x256 and b is 128x128; give both one size: --size N"),
    ],
)
def test_what_can_not_be_patched_is_one_line(
    run: Any, pair: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    with Image.open(pair[1]) as image:
        image.resize((128, 128)).save(pair[1])
    result = run("patch", "facades", pair[0], *arguments)
    assert result.code == 1
    [line] = result.err.splitlines()
    assert message in line
    assert "in Python" not in line


def test_two_images_are_needed(run: Any) -> None:
    assert run("patch", "facades", "a.png").code == 2


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(width: int) -> None:
    a, b = inputs()[:2]
    study = surgery.patch(surgery.load_model("facades"), a, b, at="up3.cat | up7.cat")
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False).print(patch_view(study, 16, width))
    assert all(len(line) <= width for line in file.getvalue().splitlines())
    assert "carried" in file.getvalue()
