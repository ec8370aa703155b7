from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from surgery_ember import embers, surgery_colormaps

import surgery
from surgery.testing import check_colormap

HERE = Path(__file__).parent.parent
LEVELS = np.linspace(0, 1, 251)


@pytest.mark.parametrize("name", ["embers", "embers_r"])
def test_it_keeps_the_contract(name: str) -> None:
    check_colormap(surgery_colormaps()[name])


def drawn() -> NDArray[np.uint8]:
    """Return the 251 colors as bytes."""
    (picture,) = surgery.draw(torch.zeros(1, 1, 2, 2), colormap=embers)
    assert picture.palette is not None
    return picture.palette[:251]


def lightness(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return CIE L* of sRGB bytes, by the luminance of IEC 61966-2-1."""
    part = pixels / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    return np.where(luminance > (6 / 29) ** 3, 116 * np.cbrt(luminance) - 16, luminance * (29 / 3) ** 3)


def test_lightness_rises_from_level_to_level_by_the_same_step() -> None:
    found = lightness(drawn())
    assert (np.diff(found) > 0).all()
    assert np.abs(found - np.linspace(2, 97, 251)).max() < 0.3  # what bytes cost; a color outside sRGB costs more


def test_no_step_of_color_stands_out() -> None:
    steps = np.linalg.norm(np.diff(embers(LEVELS), axis=0), axis=1)
    assert steps.max() < 3 * np.median(steps)


def test_reversed_it_has_the_same_colors_the_other_way_round() -> None:
    assert np.array_equal(surgery_colormaps()["embers_r"](LEVELS), embers(1 - LEVELS))


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> object:
    """Run the installed command `surgery` in a folder and return its exit code."""
    (surgery_command,) = entry_points(group="console_scripts", name="surgery")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["surgery", *arguments])
    with pytest.raises(SystemExit) as ended:
        surgery_command.load()()
    return ended.value.code


def test_the_command_of_the_readme_makes_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    _, *arguments = next(line.split() for line in readme.splitlines() if line.startswith("    surgery"))
    assert command(monkeypatch, tmp_path, *arguments) == 0
    with (
        Image.open(tmp_path / "activations/facade-1/048-up3.cat.png") as made,
        Image.open(HERE / "embers.png") as shown,
    ):
        assert np.array_equal(np.array(made.getpalette()), np.array(shown.getpalette()))
        assert np.abs(np.asarray(made, float) - np.asarray(shown, float)).mean() < 1
