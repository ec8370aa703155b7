"""`surgery diagnose`."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import surgery
from surgery.cli.diagnosis_view import diagnosis_view
from surgery.data import inputs
from surgery.diagnosis import Diagnosis
from surgery.text import replace_unencodable


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return surgery.diagnose(
        surgery.load_model("facades"), [str(inputs()[0]), str(inputs()[1])], size=256, at="up4.* | up5.*"
    )


def test_the_shipped_model_is_diagnosed_without_arguments(run: Any, tmp_path: Path) -> None:
    result = run("diagnose", "--measure", "checkerboard", "--measure", "mode-gap")
    assert (result.code, result.err) == (0, "")
    assert re.search(
        r"^!  checkerboard begins at up5\.deconv: 0\.3 of the variance in channel 32, ", result.out, re.MULTILINE
    )
    assert re.search(r"^up4\.deconv +0\.64 !", result.out, re.MULTILINE)
    assert re.search(r"^operation +checkerboard +mode-gap", result.out, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_a_folder_gets_the_pictures_and_the_last_line_says_where_to_look(run: Any, tmp_path: Path) -> None:
    result = run("diagnose", "facades", inputs()[0], "--at", "up4.*", "-o", "found", "--threshold", "checkerboard=0.7")
    assert result.code == 0
    assert "no number is past its threshold" in result.out
    assert result.out.endswith("look at found/worst-channels.png\n")
    assert np.asarray(Image.open(tmp_path / "found" / "worst-channels.png")).std() > 10
    again = run("diagnose", "facades", inputs()[0], "--at", "up4.*", "-o", "found")
    assert (again.code, again.err.count("\n")) == (1, 1)


def test_an_edit_is_diagnosed_before_it_is_kept(run: Any) -> None:
    options = ("--edit", "up3.norm = zero:channels=2", "--measure", "dead", "--measure", "constant")
    result = run("diagnose", "facades", inputs()[0], *options)
    assert result.code == 0
    assert "!  zero everywhere in up3.norm': channel 2\n" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--threshold", "checkerboard"), 2, "--threshold takes a measure and a number, checkerboard=0.3"),
        (("--threshold", "dead=much"), 2, "--threshold takes a measure and a number"),
        (("--threshold", "ded=1"), 1, "there is no measure 'ded' .*did you mean 'dead'"),
        (("--measure", "checkbord"), 1, "no measure is called 'checkbord'; did you mean 'checkerboard'"),
    ],
)
def test_what_is_misspelt_is_one_line(run: Any, arguments: tuple[str, ...], code: int, message: str) -> None:
    result = run("diagnose", "facades", inputs()[0], *arguments)
    assert result.code == code
    assert re.search(message, " ".join(result.err.split())), result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_fits_the_terminal(diagnosis: Diagnosis, width: int) -> None:
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False).print(diagnosis_view(diagnosis, 4, width))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert any(line.startswith("up4.deconv") and "!" in line for line in lines)
    assert any(re.match(r"and \d+ more operations", line) for line in lines)
    assert replace_unencodable(file.getvalue(), "ascii").isascii()
