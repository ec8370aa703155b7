"""`surgery compare`."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import surgery
from surgery.cli.compare_view import comparison_view, log_share
from surgery.models.pix2pix.state_dicts import to_public
from surgery.models.pix2pix.unet import UNet
from surgery.text.characters import replace_unencodable


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(file)
    return file


def save_epoch(folder: Path, epoch: str, change: float) -> None:
    """Of a U-Net as small as one can be, whose up3.deconv is changed."""
    torch.manual_seed(0)
    model = UNet(5, width=2)
    with torch.no_grad():
        model.get_submodule("up3.deconv").weight.mul_(1 + change)  # type: ignore[operator,union-attr]
    torch.save(to_public(model), folder / f"{epoch}_net_G.pth")


@pytest.fixture
def epochs(tmp_path: Path, photo: Path) -> Path:
    for epoch, change in (("5", 0.5), ("10", 0.25), ("100", 1e-5), ("latest", 0.0)):
        save_epoch(tmp_path, epoch, change)
    return tmp_path


def table_of(out: str) -> dict[str, list[str]]:
    """The cells of the rows of the table by operation, without marks."""
    lines = out.splitlines()
    start = next(place for place, line in enumerate(lines) if line.split()[:1] == ["operation"])
    rows = [line.replace("◆", " ").replace("▸", " ").split() for line in lines[start + 1 : lines.index("", start)]]
    return {row[0]: row[1:] for row in rows}


def test_two_checkpoints_part_at_the_layer_that_was_changed(run: Any, epochs: Path) -> None:
    result = run("compare", "latest_net_G.pth", "10_net_G.pth", "photo.png", "--size", 32)
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines()[0] == "10: differs from latest from up3.deconv on, by 25%"
    table = table_of(result.out)
    names = list(table)
    assert names[0] == "down1.conv"
    assert all(table[name] == ["equal"] for name in names[: names.index("up3.deconv")])
    bar, relative, own, snr, unit, equal, cosine = table["up3.deconv"]
    assert (relative, own, snr, unit, cosine) == ("25%", "25%", "12.0", "dB", "1.0000")
    assert len(bar) == round(24 * log_share(0.25))
    assert float(equal.rstrip("%")) < 5
    assert table["up3.cat"][2] == "0"
    assert next(line for line in result.out.splitlines() if "◆" in line).split()[:2] == ["◆", "up3.deconv"]


def test_epochs_are_columns_in_the_order_of_their_numbers(run: Any, epochs: Path) -> None:
    result = run("compare", "--epochs", "*_net_G.pth", "photo.png", "--size", 32, "--at", "up3.*")
    assert result.code == 0
    assert [line.partition(":")[0] for line in result.out.splitlines()[:3]] == ["10", "100", "latest"]
    header = next(line for line in result.out.splitlines() if line.startswith("operation"))
    assert header.split() == ["operation", "10", "100", "latest"]
    assert table_of(result.out)["up3.act"] == ["equal"] * 3
    assert table_of(result.out)["up3.deconv"][1::2] == ["17%", "33%", "33%"]


def test_where_columns_do_not_fit_each_run_is_a_character(
    run: Any, epochs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    result = run("compare", "--epochs", "*_net_G.pth", "photo.png", "--size", 32, "--at", "up3.*")
    assert table_of(result.out)["up3.act"] == ["•••"]
    assert table_of(result.out)["up3.deconv"] == ["███"]
    assert "against 5" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("options", "first", "at"),
    [
        (["--mode", "eval,train"], "train: differs from eval from", "down2.norm"),
        (["--seed", "1,2", "--mode", "train"], "seed 2: differs from seed 1 from", "dropout"),
        (["--dtype", "float32,bfloat16"], "bfloat16: differs from float32 from", "down1.conv"),
        (["--edit", "up3.cat = zero"], "up3.cat = zero: differs from no edits from", "up3.cat on"),
        (["--edit", "", "--edit", "up3.cat = zero; up2.cat = zero"], "up3.cat = zero, up2.cat = zero:", "up3.cat on"),
    ],
)
def test_one_model_is_compared_in_what_varies(run: Any, epochs: Path, options: Any, first: str, at: str) -> None:
    torch.manual_seed(0)
    torch.save(to_public(UNet(6, width=2)), epochs / "six_net_G.pth")
    Image.effect_noise((64, 64), 60).convert("RGB").save(epochs / "noise.png")
    result = run("compare", "six_net_G.pth", "noise.png", "--size", 64, *options)
    assert result.code == 0
    assert result.out.startswith(first)
    assert at in result.out.splitlines()[0]


def test_edits_may_follow_one_option_as_a_list(run: Any, epochs: Path) -> None:
    arguments = ("compare", "5_net_G.pth", "photo.png", "--size", 32, "--edit", "", "up3.cat=zero", "up2.cat = zero")
    result = run(*arguments)
    assert result.code == 0
    assert "up3.cat=zero: differs from no edits from up3.cat on" in result.out
    assert "up2.cat = zero: differs from no edits from up2.cat on" in result.out


def test_all_runs_draw_the_same_random_numbers_unless_seeds_are_given(run: Any, epochs: Path) -> None:
    for epoch in ("a", "b"):
        torch.manual_seed(0)
        torch.save(to_public(UNet(6, width=2)), epochs / f"{epoch}_net_G.pth")
    Image.effect_noise((64, 64), 60).convert("RGB").save(epochs / "noise.png")
    result = run("compare", "a_net_G.pth", "b_net_G.pth", "noise.png", "--mode", "train")
    assert "b: bit-equal to a at" in result.out
    assert result.err == "surgery: note: random numbers are drawn in a, b: for each image from the seed 0\n"


def test_json_has_every_measure(run: Any, epochs: Path) -> None:
    result = run("compare", "latest_net_G.pth", "10_net_G.pth", "photo.png", "--size", 32, "--json")
    content = json.loads(result.out)
    found = surgery.compare(["latest_net_G.pth", "10_net_G.pth"], epochs / "photo.png", size=32)
    assert content["runs"] == ["latest", "10"]
    assert content["first_different"] == {"10": "up3.deconv"}
    assert content["findings"] == {"10": found.finding()}
    by_path = {row["operation"]: row for row in content["operations"]}
    assert by_path["up3.deconv"]["own"] == pytest.approx(0.25, rel=1e-5)
    assert by_path["up3.act"]["snr"] is None
    assert len(by_path) == len(found.rows)


@pytest.mark.parametrize(("sort", "key"), [("relative", "relative"), ("own", "own")])
def test_rows_are_sorted(run: Any, epochs: Path, sort: str, key: str) -> None:
    result = run("compare", "latest_net_G.pth", "10_net_G.pth", "photo.png", "--size", 32, "--sort", sort)
    found = surgery.compare(["latest_net_G.pth", "10_net_G.pth"], epochs / "photo.png", size=32)
    values = {record["operation"]: record[key] for record in found.records()}
    shown = [values[name] for name in table_of(result.out)]
    assert shown == sorted(shown, reverse=True)


def test_names_are_aligned(run: Any, epochs: Path) -> None:
    (epochs / "nets.py").write_text(
        "from torch import nn\n\n\n"
        "def one():\n    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))\n\n\n"
        "class Other(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.enc0 = nn.Conv2d(3, 4, 1)\n"
        "        self.act = nn.ReLU()\n        self.dec = nn.Conv2d(4, 3, 1)\n\n"
        "    def forward(self, x):\n        return self.dec(self.act(self.enc0(x)))\n"
    )
    arguments = ("compare", "nets.py:one", "nets.py:Other", "photo.png")
    result = run(*arguments, "--align", "0=enc0", "--align", "2 = dec")
    assert result.code == 0
    assert "against enc0" in result.out
    assert "against dec" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 2, "give a model: MODEL [MODEL ...] IMAGES"),
        ("5_net_G.pth photo.png", 2, "a comparison takes at least 2 runs: give a second model, or --mode eval,train"),
        ("5_net_G.pth photo.png 10_net_G.pth", 2, "models come before images: move 10_net_G.pth before photo.png"),
        ("--epochs *_net_D.pth photo.png", 2, "*_net_D.pth matches no file, and a comparison takes 2"),
        ("--epochs 5* photo.png", 2, "5* matches only 5_net_G.pth, and a comparison takes 2"),
        ("--epochs *_net_G.pth 5_net_G.pth photo.png", 2, "the models are those of *_net_G.pth: leave out 5_net_G.pth"),
        ("photo.png", 2, "photo.png is an image, and models come before images: facades photo.png"),
        (
            "5_net_G.pth facades_discriminator photo.png",
            1,
            "facades_discriminator: the model does not take it as",
        ),
        ("5_net_G.pth photo.png --seed 1,x", 2, "a seed is a whole number, not 'x'"),
        ("5_net_G.pth photo.png --mode eval,", 2, "values are separated by commas, and none is empty: not 'eval,'"),
        ("5_net_G.pth photo.png --mode eval,test", 1, "mode is eval, train or as-is, not 'test'"),
        ("5_net_G.pth photo.png --dtype float32,int8", 1, "a dtype is float32, bfloat16, float16 or float64"),
        ("5_net_G.pth 10_net_G.pth photo.png --align x", 2, "an alignment is PATTERN=PATTERN, not 'x'"),
        ("5_net_G.pth 10_net_G.pth photo.png --align x*=y*", 1, "'x*' matches no operation of the first model"),
        ("5_net_G.pth photo.png --edit x=zero", 1, "'x' matches none of"),
        ("5_net_G.pth photo.png --edit up3.cat=zer", 1, "did you mean 'zero'?"),
        ("5_net_G.pth facadez photo.png", 1, "no model is called 'facadez'; did you mean"),
        ("5_net_G.pth 6_net_G.pth photo.png", 1, "there is no file 6_net_G.pth"),
        ("5_net_G.pth 10_net_G.pth foto.png", 1, "foto.png"),
    ],
)
def test_what_can_not_be_compared_is_one_line(run: Any, epochs: Path, arguments: str, code: int, message: str) -> None:
    result = run("compare", *arguments.split())
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_an_image_that_fails_is_named_and_the_others_are_compared(run: Any, epochs: Path) -> None:
    (epochs / "broken.png").write_bytes(b"no image")
    result = run("compare", "5_net_G.pth", "10_net_G.pth", "photo.png", "broken.png", "--size", 32)
    assert result.code == 1
    assert "10: differs from 5 from up3.deconv on" in result.out
    assert result.err.splitlines()[-1] == "surgery: 1 of 2 images failed"


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("count", [2, 4])
def test_the_view_fits_the_terminal_and_is_ascii_where_it_has_to_be(width: int, count: int, epochs: Path) -> None:
    sources = [str(epochs / f"{epoch}_net_G.pth") for epoch in ("5", "10", "100", "latest")][:count]
    found = surgery.compare(sources, epochs / "photo.png", size=32)
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(comparison_view(found, "execution", width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    assert replace_unencodable(text, "ascii").isascii()
    assert "\\u" not in replace_unencodable(text, "ascii")


def test_a_bar_is_on_a_logarithmic_scale() -> None:
    assert [log_share(value) for value in (0.0, 1e-9, 1e-8, 1.0, 5.0, float("inf"))] == [0, 0, 0, 1, 1, 1]
    assert log_share(1e-4) == pytest.approx(0.5)


def test_a_folder_has_the_tables_and_the_pictures(run: Any, epochs: Path) -> None:
    arguments = ("compare", "latest_net_G.pth", "10_net_G.pth", "photo.png", "--size", 32, "-o", "compared")
    result = run(*arguments, "--top", 2, "--channels", 1)
    assert result.code == 0
    assert result.out.rstrip().endswith("look at compared/photo/sheet.png")
    assert {each.name for each in (epochs / "compared").iterdir()} == {
        *("compared.csv", "compared.json", "manifest.json", "photo")
    }
    names = [file.name for file in (epochs / "compared/photo").glob("0*.png")]
    assert len(names) == 2 * 3
    assert sum("difference" in name for name in names) == 2
    manifest = json.loads((epochs / "compared/manifest.json").read_text())
    assert [(each["name"], each["model"]) for each in manifest["runs"]] == [
        *(("latest", "latest_net_G.pth"), ("10", "10_net_G.pth"))
    ]
    assert run("verify", "compared").code == 0
    again = run(*arguments)
    assert again.code == 1
    assert again.err.count("\n") == 1
    assert run(*arguments, "--overwrite").code == 0
