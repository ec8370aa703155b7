"""Edits on the command line: extract, inspect and check with `--edit`, and the recipe that comes back from a run."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import surgery
from surgery.builtin import Zero
from surgery.editing import read_edits
from surgery.errors import EditError

EDIT = "up2.cat = zero:channels=0-1"


@pytest.fixture
def inputs(tmp_path: Path, checkpoint: Path) -> tuple[Path, Path]:
    """A checkpoint and an image."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return checkpoint, tmp_path / "photo.png"


def test_extract_draws_the_values_before_and_after_an_edit(run: Any, inputs: tuple[Path, Path]) -> None:
    plain = run("extract", *inputs, "--at", "up2.cat", "-o", "plain", "--sink", "npz")
    result = run("extract", *inputs, "--at", "up2.cat*", "--edit", EDIT, "-o", "edited", "--sink", "npz")
    assert (plain.code, result.code, result.err) == (0, 0, "")
    assert "up2.cat'" in result.out
    with np.load("plain/photo/activations.npz") as before, np.load("edited/photo/activations.npz") as after:
        assert np.array_equal(after["up2.cat"], before["up2.cat"])
        assert not after["up2.cat'"][:2].any()
        assert np.array_equal(after["up2.cat'"][2:], after["up2.cat"][2:])
        assert not np.array_equal(after["output"], before["output"])
    manifest = json.loads(Path("edited/manifest.json").read_text())
    assert manifest["settings"]["edits"] == [EDIT]
    assert manifest["check"].startswith("without the edits, the output of the first batch is the original model's")
    assert run("verify", "edited").code == 0


def test_edits_come_back_from_a_folder_a_manifest_and_a_picture(run: Any, inputs: tuple[Path, Path]) -> None:
    edits = [EDIT, "op:conv2d & down* = scale:by=1.5,region=0,0,0.5,0.5"]
    assert run("extract", *inputs, "--edit", edits[0], "--edit", edits[1], "-o", "run").code == 0
    picture = next(Path("run/photo").glob("*up2.cat.png"))
    for source in ("run", "run/manifest.json", picture):
        assert read_edits(source) == edits
    assert run("extract", *inputs, "--edits-from", "run", "-o", "again").code == 0
    one, other = (np.asarray(Image.open(f"{each}/photo/000-input.png")) for each in ("run", "again"))
    assert np.array_equal(one, other)
    first = [Path(f"{each}/photo").glob("*-output.png") for each in ("run", "again")]
    pixels = [np.asarray(Image.open(next(each))) for each in first]
    assert np.array_equal(*pixels)


def test_a_picture_that_claims_to_be_huge_is_one_line(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(path := tmp_path / "bomb.png")
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", 200_000, 200_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)
    with pytest.raises(EditError, match=r"bomb\.png: it is no folder, manifest or PNG of a run$"):
        read_edits(path)


def test_a_run_without_edits_gives_none_and_another_file_is_one_line(run: Any, inputs: tuple[Path, Path]) -> None:
    assert run("extract", *inputs, "--at", "up2.cat", "-o", "run").code == 0
    assert read_edits("run") == []
    for source, message in [
        ("photo.png", "has no recipe"),
        ("latest_net_G.pth", "no folder, manifest"),
        ("no", "no fol"),
    ]:
        with pytest.raises(EditError, match=message) as caught:
            read_edits(inputs[0].parent / source)
        assert "\n" not in str(caught.value)
    with pytest.raises(EditError, match=r"no folder, manifest or PNG of a run$"):
        read_edits("a" * 300)
    many = Path("many/manifest.json")
    many.parent.mkdir()
    edits = json.dumps(["x=zero"] * 2000)
    many.write_text(Path("run/manifest.json").read_text().replace('"mode"', f'"edits": {edits}, "mode"', 1))
    with pytest.raises(EditError, match=r"many has 2,000 edits, and a recipe has at most 1,000$"):
        read_edits("many")
    damaged = Path("run/manifest.json")
    damaged.write_text(damaged.read_text().replace('"mode"', '"edits": [3], "mode"', 1))
    result = run("extract", *inputs, "--edits-from", "run", "-o", "other")
    assert result.code == 1
    assert result.err == "surgery: run has no recipe of edits: it is no run of surgery, or it is damaged\n"


def test_a_reference_set_gives_the_means(run: Any, inputs: tuple[Path, Path]) -> None:
    result = run(
        *("extract", *inputs, "--at", "down2*", "--edit", "down2.conv = mean:over=reference", "--reference", inputs[1]),
        *("-o", "run", "--sink", "npz"),
    )
    assert (result.code, result.err) == (0, "")
    with np.load("run/photo/activations.npz") as after:
        means = after["down2.conv"].mean((1, 2), keepdims=True)
        assert np.allclose(after["down2.conv'"], np.broadcast_to(means, after["down2.conv"].shape), atol=1e-6)
    assert json.loads(Path("run/manifest.json").read_text())["settings"]["reference"] == [str(inputs[1])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--edit", "up2.cat"],
            "an edit is SELECTION = NAME:OPTIONS, such as 'up3.cat = zero:channels=0-15', not 'up2.c",
        ),
        (["--edit", "up2.cat = zeros"], "no edit is called 'zeros'; did you mean 'zero'?"),
        (["--edit", "up2.cta = zero"], "'up2.cta' matches none of"),
        (["--edit", "up2.cat = zero:channels=99"], "up2.cat has 4 channels, 0 to 3, not 99"),
        (["--edit", "up2.cat = mean:over=reference"], "needs a reference run"),
        (["--edit", "up2.cat = zero", "--reference", "photo.png"], "a reference is given, but no edit takes anything"),
        (["--edits-from", "nothing"], "can't read edits from nothing: it is no folder, manifest or PNG of a run"),
    ],
)
def test_edits_that_can_not_be_made_are_one_line(
    run: Any, inputs: tuple[Path, Path], arguments: list[str], message: str
) -> None:
    result = run("extract", *inputs, *arguments)
    assert result.code == 1
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not Path("activations").exists()


def test_inspect_shows_edits_that_stand_out(run: Any, inputs: tuple[Path, Path]) -> None:
    result = run("inspect", inputs[0], "--edit", EDIT, "--at", "up2.cat*")
    lines = result.out.splitlines()
    row = next(line for line in lines if "cat' " in line)
    assert "◆ zero:channels=0-1" in row
    assert "1 edited, 2 extracted" in result.out
    closed = run("inspect", inputs[0], "--edit", EDIT, "--depth", "1").out
    assert "└▸ ◆ up2.cat' = zero:channels=0-1" in closed


def test_check_certifies_an_edited_model(run: Any, inputs: tuple[Path, Path]) -> None:
    result = run("check", inputs[0], "--edit", EDIT)
    assert (result.code, result.err) == (0, "")
    assert "the same without its edits and upstream of them, bit for bit" in result.out
    assert all(f"{made}  1 ✓" in result.out for made in ("saved", "compiled", "exported"))
    record = json.loads(run("check", inputs[0], "--edit", EDIT, "--json").out)
    assert record["edits"] == [EDIT]


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["check"],
        ["trace-back", "--pixel", "3,4", "-o", "run"],
        ["maximize", "--at", "up2.cat", "--channel", "1", "--steps", "1", "-o", "run"],
    ],
)
def test_every_command_with_edits_takes_a_reference_set(
    run: Any, inputs: tuple[Path, Path], command: list[str]
) -> None:
    name, *options = command
    edit = ["--edit", "down2.conv = mean:over=reference"]
    result = run(name, *inputs, *options, *edit, "--reference", inputs[1])
    assert (result.code, result.err) == (0, "")
    result = run(name, *inputs, *options, *edit, "--overwrite" if "-o" in options else "--no-plugins")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("surgery: mean:over=reference needs a reference run; give its inputs, --reference FIL")


def test_a_size_that_the_model_does_not_take_is_one_line(run: Any, inputs: tuple[Path, Path]) -> None:
    result = run("maximize", inputs[0], "--at", "up2.cat", "--channel", "1", "--size", "20")
    assert result.code == 1
    assert (
        result.err == "surgery: UNet takes heights and widths that are multiples of 32, not 20x20; size 32 would do\n"
    )


def test_edits_in_python_are_pairs_or_texts(run: Any, inputs: tuple[Path, Path]) -> None:
    del run
    model = surgery.load_model(inputs[0])
    edits = [("up2.cat", Zero(channels=range(2)))]
    surgery.extract(model, inputs[1], edits=edits, out="run", at="up2.cat")
    assert read_edits("run") == [EDIT]
