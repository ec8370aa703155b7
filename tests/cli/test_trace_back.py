"""`surgery trace-back`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)).save(file)
    return file


def test_a_pixel_is_followed_from_a_file_to_a_folder(run: Any, photo: Path, checkpoint: Path) -> None:
    result = run("trace-back", checkpoint, photo, "--side", "left", "--size", 32, "--pixel", "12,9", "--at", "op:cat")
    assert (result.code, result.err) == (0, "")
    header, *rows = [line.split("  ") for line in result.out.splitlines() if line][1:7]
    assert [cell.strip() for cell in header if cell.strip()] == [
        "operation", "maps", "can reach", "in pixels", "95 % within", "95 % in",
    ]  # fmt: skip
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert [row[:4] for row in cells] == [
        ["input", "32x32", "32x32", "32x32"],
        ["up5.cat", "2x2", "2x2", "32x32"],
        ["up4.cat", "4x4", "3x3", "24x24"],
        ["up3.cat", "8x8", "2x3", "8x12"],
        ["up2.cat", "16x16", "2x2", "4x4"],
    ]
    assert result.out.rstrip().endswith("look at traced-back/sheet.png")
    content = json.loads(Path("traced-back/fields.json").read_text())
    assert (content["pixel"], len(content["fields"])) == ([12, 9], 5)
    assert run("verify", "traced-back").code == 0
    again = run("trace-back", checkpoint, photo, "--side", "left", "--size", 32, "--pixel", "0,0")
    assert again.code == 1
    assert "traced-back" in again.err


def test_a_score_of_the_shipped_discriminator_has_its_patch(run: Any, photo: Path) -> None:
    arguments = ("--side", "both", "--size", 64, "--pixel", "2,3", "--at", "score", "-o", "out")
    result = run("trace-back", "facades_discriminator", photo, *arguments)
    assert (result.code, result.err) == (0, "")
    (field, _) = json.loads(Path("out/fields.json").read_text())["fields"]
    assert (field["top"], field["left"], field["height"], field["width"]) == (0, 1, 63, 63)
    with Image.open("out/000-input.png") as picture:
        assert picture.size == (512, 256)


def test_an_edit_changes_what_reaches_the_pixel(run: Any, photo: Path, checkpoint: Path) -> None:
    arguments = (
        "trace-back",
        checkpoint,
        photo,
        "--side",
        "left",
        "--size",
        32,
        "--pixel",
        "12,9",
        "--at",
        "down5.conv",
    )
    assert run(*arguments, "-o", "plain").code == 0
    assert run(*arguments, "-o", "edited", "--edit", "up2.cat = zero").code == 0
    plain, edited = (
        json.loads(Path(f"{folder}/fields.json").read_text())["fields"][0] for folder in ("plain", "edited")
    )
    assert plain["gradient"] > 0
    assert edited["gradient"] == 0
    assert edited["radius_95"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "name a pixel of the output: ROW,COLUMN, such as 120,88;"),
        (("--pixel", "3"), "such as 120,88, not '3'"),
        (("--pixel", "32,0"), "the output has 32 rows and 32 columns, and no pixel 32,0"),
        (("--pixel", "1,1", "--channel", "3"), "the output has 3 channels, 0 to 2, not 3"),
        (("--pixel", "1,1", "--at", "down9.conv"), "down9.conv"),
    ],
)
def test_bad_options_are_one_line(
    run: Any, photo: Path, checkpoint: Path, options: tuple[str, ...], message: str
) -> None:
    result = run("trace-back", checkpoint, photo, "--side", "left", "--size", 32, *options)
    assert result.code in (1, 2)
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not Path("traced-back").exists()


def test_an_output_without_height_and_width_has_no_pixels(run: Any, photo: Path) -> None:
    result = run("trace-back", "torchvision/resnet18", photo, "--size", 32, "--pixel", "0,0")
    assert result.code == 1
    assert "the output (1, 1000) has no height and width, so it has no pixels" in result.err
