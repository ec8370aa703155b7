"""Layouts that the user requests, in Python and on the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin.default_recipe import DEFAULT_RECIPE
from surgery.builtin.sinks.png import Png
from surgery.cli import app as cli
from surgery.errors import RenderError, SelectionError
from surgery.layouts.layout_functions import ChannelsFirst, ChannelsLast, Flat, Tokens, parse_layout

if TYPE_CHECKING:
    from pathlib import Path

VALUES = torch.randn(2, 4, 5, 6)


TOKENS = torch.randn(2, 17, 6)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("channels-last", VALUES, VALUES.permute(0, 3, 1, 2)),
        ("channels-first", VALUES, VALUES),
        ("flat", VALUES, VALUES.reshape(2, 1, 20, 6)),
        ("tokens:4x4", TOKENS, TOKENS[:, 1:].transpose(1, 2).unflatten(2, (4, 4))),
        ("tokens:2X8", TOKENS, TOKENS[:, 1:].transpose(1, 2).unflatten(2, (2, 8))),
        ("flat", TOKENS, TOKENS[:, None]),
    ],
)
def test_a_requested_layout_applies(text: str, values: Tensor, expected: Tensor) -> None:
    drawn = surgery.draw(values, layout=parse_layout(text))
    for ours, theirs in zip(drawn, surgery.draw(expected), strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)


def test_a_layout_can_be_a_function() -> None:
    drawn = surgery.draw(VALUES, layout=lambda values: values.transpose(2, 3))
    for ours, theirs in zip(drawn, surgery.draw(VALUES.transpose(2, 3)), strict=True):
        assert np.array_equal(ours.pixels, theirs.pixels)
    with pytest.raises(RenderError, match=r"has to return \(B, C, H, W\) or None, not \(1, 4, 30\)"):
        surgery.draw(VALUES, layout=lambda values: values.flatten(2))
    with pytest.raises(RenderError, match=r"can't take \(1, 4, 5, 6\)"):
        surgery.draw(VALUES, layout=lambda values: values.unflatten(1, (3, 3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("channel-last", "no layout is called 'channel-last'; .*did you mean 'channels-last'"),
        ("tokens", "names their grid, as in tokens:14x14"),
        ("tokens:14", "names their grid"),
        ("tokens:0x4", "names their grid"),
        ("flat:2", "no layout is called 'flat:2'"),
    ],
)
def test_an_unknown_layout_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(RenderError, match=message):
        parse_layout(text)


def run_command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["surgery", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)  # type: ignore[arg-type]


def test_the_command_line_requests_layouts_for_all_operations_or_a_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["extract", "facades", "--at", "down1.conv | down2.conv", "--sink", "png", "-o"]
    asked = ["--layout", "channels-last", "--layout", "down2*=auto", "--layout", "output=tokens:2x2"]
    assert run_command(monkeypatch, *words, str(tmp_path / "o"), *asked) == 0
    printed = capsys.readouterr().out
    assert "layouts: 1 channels-last; the manifest says why" in printed
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    assert manifest["recipe"]["layouts"] == "*=channels-last, down2*=auto, output=tokens:2x2"
    said = {each["path"]: (each["layout"], each["layout_reason"]) for each in manifest["operations"]}
    assert said["down1.conv"] == ("channels-last", "requested")
    assert said["down2.conv"] == ("channels-first", "its axes are known from down2.conv (conv2d)")
    (picture,) = (tmp_path / "o").glob("*/*-down1.conv.png")
    with Image.open(picture) as image:
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
    assert (note["layout"], note["layout_reason"], len(note["low"])) == ("channels-last", "requested", 128)
    assert run_command(monkeypatch, *words, str(tmp_path / "p"), "--layout", "nothing*=flat") == 1
    assert "'nothing*', which matches none of 2 chosen operations" in capsys.readouterr().err
    assert run_command(monkeypatch, *words, str(tmp_path / "q"), "--layout", "down1*=tokens:7x7") == 0
    assert "the requested layout does not fit down1.conv" in capsys.readouterr().out


def test_python_takes_layouts_as_values(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    image = np.zeros((12, 20, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")

    def names(layout: Any) -> list[str | None]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))  # a folder of its own for each run
        report = surgery.extract(model, tmp_path / "a.png", out=out, sinks=[Png()], layout=layout)
        return [finding.layout.name if finding.layout else None for finding in report.summaries]

    assert names(None) == ["image", "channels-first", "channels-first", "channels-first"]
    assert names(Flat()) == ["image", "flat", "flat", "flat"]
    assert names({"1": ChannelsLast(), "output": ChannelsFirst()}) == [
        *("image", "channels-first", "channels-last", "channels-first")
    ]
    assert names({surgery.op("relu"): Tokens(3, 3)})[2] == "channels-first"
    with pytest.raises(SelectionError, match="matches none of 2 chosen operations"):
        names({"7": Flat()})


def test_the_default_recipe_requests_no_layout() -> None:
    assert DEFAULT_RECIPE.describe()["layouts"] == "auto"
