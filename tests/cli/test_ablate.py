"""`surgery ablate`."""

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
from surgery.cli.study_view import ablation_view, make_bar
from surgery.text.characters import replace_unencodable


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    return file


def rows_of(out: str) -> list[list[str]]:
    """The cells of the rows of the table, from below its header."""
    lines = out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("unit"))
    return [line.split() for line in lines[start + 1 : lines.index("", start)]]


def test_each_skip_of_the_shipped_model_is_ablated_and_drawn(run: Any, tmp_path: Path) -> None:
    result = run("ablate", "facades", "--at", "op:cat")
    assert (result.code, result.err) == (0, "")
    rows = rows_of(result.out)
    assert [row[0] for row in rows] == [f"up{number}.cat" for number in range(2, 9)]
    bars = [len(row[1]) for row in rows]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] == 24
    assert set(rows[0][1]) == {"█"}
    assert "facades, zero: 7 operations, 1 image" in result.out
    assert result.out.rstrip().endswith("look at ablations/facade-1/sheet.png")
    assert (tmp_path / "ablations/facade-1/sheet.png").is_file()
    assert run("verify", "ablations").code == 0


def test_the_options_are_those_of_the_function(run: Any, checkpoint: Path, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    result = run(
        *("ablate", checkpoint, photo, "--at", "up3.cat", "--each", "channel", "--top", 3, "--edit", "scale:by=-1"),
        *("--within", "mask.png", "--order", "execution", "--mode", "as-is", "--seed", 3, "--batch", 2, "-o", "out"),
        *("--memory", "500MB"),
    )
    assert result.code == 0
    model = surgery.load_model(checkpoint)
    expected = surgery.ablate(
        model,
        photo,
        at="up3.cat",
        each="channel",
        edit="scale:by=-1",
        within=tmp_path / "mask.png",
        order="execution",
        mode="as-is",
        seed=3,
        batch=2,
    )
    content = json.loads((tmp_path / "out/ablations.json").read_text())
    assert [row["inside"] for row in content["rows"]] == [row.effect.inside for row in expected]
    rows = rows_of(result.out)
    assert [row[1] for row in rows] == ["0", "1", "2"]
    assert f"and {len(expected) - 3} more, in the tables in the folder" in result.out
    assert "inside" in result.out
    assert "outside" in result.out


def test_what_is_to_know_is_printed_as_notes(run: Any, checkpoint: Path, photo: Path) -> None:
    result = run("ablate", checkpoint, photo, "--at", "up3.cat", "--each", "channel", "--mode", "train")
    assert result.code == 0
    lines = result.err.splitlines()
    assert "surgery: note: variants run one at a time: entries of a batch depend on each other" in lines[0]
    assert all(line.startswith("surgery: note: ") for line in lines)


def test_an_image_that_fails_is_told_and_the_exit_code_is_one(run: Any, checkpoint: Path, photo: Path) -> None:
    (photo.parent / "broken.png").write_bytes(b"no image")
    result = run("ablate", checkpoint, "broken.png", photo, "--at", "up3.cat")
    assert result.code == 1
    assert "up3.cat" in result.out
    assert "broken.png" in result.err
    assert result.err.splitlines()[-1] == "surgery: 1 of 2 images failed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "nothing"], "nothing"),
        (["--each", "layer"], "each is operation, module, channel, group:N or all, not 'layer'"),
        (["--edit", "zeros"], "zeros"),
        (["--edit", "zero:channels=1", "--each", "channel"], "leave channels out of zero:channels=1"),
        (["--edit", "mean:over=reference"], "needs a reference run; give its inputs, --reference FILES"),
        (["--within", "nowhere.png"], "nowhere.png"),
        (["--memory", "much"], "a limit of memory is a number of bytes"),
        (["--memory", "1KB"], "one variant may hold"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    run: Any, checkpoint: Path, photo: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run("ablate", checkpoint, photo, *arguments)
    assert result.code == 1
    [line] = result.err.splitlines()
    assert line.startswith("surgery: ")
    assert message in line
    assert not (tmp_path / "ablations").exists()


@pytest.mark.parametrize("arguments", [["--order", "size"], ["--top", "-1"], ["--batch", "0"]])
def test_a_wrong_option_is_wrong_usage(run: Any, arguments: list[str]) -> None:
    result = run("ablate", "facades", *arguments)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1


def test_a_folder_that_holds_a_run_is_replaced_only_if_asked(run: Any, checkpoint: Path, photo: Path) -> None:
    assert run("ablate", checkpoint, photo, "--at", "up3.cat").code == 0
    again = run("ablate", checkpoint, photo, "--at", "up4.cat")
    assert again.code == 1
    assert "--overwrite" in again.err
    assert run("ablate", checkpoint, photo, "--at", "up4.cat", "--overwrite").code == 0


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_the_table_fits_the_terminal(checkpoint: Path, photo: Path, width: int) -> None:
    study = surgery.ablate(surgery.load_model(checkpoint), photo, at="up3.cat", each="channel", source="net")
    file = io.StringIO()
    Console(file=file, width=width, markup=False, emoji=False).print(ablation_view(study, 16, width))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    assert any("█" in line for line in lines)
    shown = replace_unencodable(file.getvalue(), "ascii")
    assert shown.isascii()
    assert "####" in shown


@pytest.mark.parametrize(("share", "length"), [(0.0, 0), (0.001, 1), (0.5, 10), (1.0, 20)])
def test_a_bar_is_as_long_as_its_share(share: float, length: int) -> None:
    assert make_bar(share, 20).plain == "█" * length


def test_a_bar_without_end_is_told() -> None:
    assert make_bar(float("inf"), 20).plain == "not finite"
