"""Maps that would make a picture too large for viewers are drawn in several, and the run says so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import surgery
from surgery.builtin.sinks.png import Png
from surgery.builtin.tilers import Channels, Grid, Strip
from surgery.cli.run_views import report_view
from surgery.drawing import MAX_SIDE, picture_assembly
from surgery.stages import TileLayout
from surgery.types import BACKGROUND
from tests.cli.test_graph_view import printed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("tiler", "channels", "height", "width"),
    [
        (Grid(), 64, 2048, 2048),
        (Grid(), 65, 2048, 2048),
        (Grid(), 7, 5000, 4000),
        (Grid(columns=1), 512, 256, 256),
        (Grid(megapixels=1), 200, 100, 100),
        (Strip(), 2048, 16, 16),
        (Strip(), 64, 2048, 2048),
    ],
)
def test_no_picture_is_larger_than_viewers_can_open(tiler: Any, channels: int, height: int, width: int) -> None:
    layout = tiler.layout(channels, height, width)
    rows = -(-layout.tiles // layout.columns)
    sides = rows * (height * layout.factor + layout.gap), layout.columns * (width * layout.factor + layout.gap)
    assert sides[0] * sides[1] <= tiler.megapixels * 1_000_000 <= Image.MAX_IMAGE_PIXELS
    assert max(sides) <= MAX_SIDE + layout.gap
    pictures = -(-channels // layout.tiles)
    assert pictures > 1
    assert layout.tiles * pictures - channels < pictures  # no picture is much emptier than the others


def test_parts_contain_all_channels_in_order_with_their_limits() -> None:
    values = torch.randn(1, 7, 600, 500)
    parts = surgery.draw(values, tiler=Grid(megapixels=1, gap=0, columns=3))
    assert [picture.part for picture in parts] == [(1, 3), (2, 3), (3, 3)]
    assert [picture.channels for picture in parts] == [(0, 2), (3, 5), (6, 6)]
    assert [picture.label for picture in parts] == ["part1", "part2", "part3"]
    assert [limit for picture in parts for limit in picture.low] == values.amin((0, 2, 3)).tolist()
    (seventh,) = surgery.draw(values[:, 6:])
    assert np.array_equal(parts[2].pixels[:600, :500], seventh.pixels)
    assert (parts[2].pixels[:, 500:] == BACKGROUND).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_the_last_picture_may_have_fewer_maps(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.drawing import compiled_kernels, tiling

    codes = torch.randint(0, 250, (2, 5, 3, 4), dtype=torch.uint8)
    layout = TileLayout(5, 2, 2, uneven=True)
    if not compiled:
        monkeypatch.setattr(compiled_kernels, "kernels", None)
    laid = tiling.tile_codes(codes, layout)
    assert laid.shape == (2, 3, 3, 9)
    assert torch.equal(laid[1, 2, :, 1:5], codes[1, 4])
    assert (laid[:, 2, :, 5:] == BACKGROUND).all()


@pytest.mark.parametrize("tiler", [Channels(), Grid(megapixels=1), lambda levels: levels])
def test_a_single_map_that_is_too_large_is_split(tiler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_assembly, "MAX_MEGAPIXELS", 1)
    values = torch.randn(1, 1, 1500, 1000)
    parts = surgery.draw(values, tiler=tiler)
    assert [picture.pixels.shape for picture in parts] == [(1000, 1000), (500, 1000)]
    assert [picture.label for picture in parts] == ["part1", "part2"]
    whole = surgery.draw(values, tiler=Grid())[0]
    assert np.array_equal(np.concatenate([picture.pixels for picture in parts]), whole.pixels)
    two = surgery.draw(torch.cat((values, values), 1), tiler=Channels())
    assert [picture.label for picture in two] == ["c000-part1", "c000-part2", "c001-part1", "c001-part2"]


def test_the_report_the_manifest_and_each_file_name_the_parts(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (700, 800, 3), np.uint8)).save(tmp_path / "a.png")
    how: Any = {"tiler": Grid(megapixels=1), "sinks": [Png()], "output": False}
    report = surgery.extract(nn.Conv2d(3, 5, 1), tmp_path / "a.png", out=tmp_path / "o", **how)
    names = sorted(path.name for path in (tmp_path / "o" / "a").iterdir())
    assert names[0] == "000-input.png"
    assert [name[-9:] for name in names[1:]] == [f"part{number}.png" for number in range(1, 6)]
    manifest = json.loads((tmp_path / "o" / "manifest.json").read_text())
    files = manifest["images"][0]["activations"][1]["files"]
    assert [file["file"].rpartition("/")[2] for file in files] == names[1:]
    assert [(file["part"], file["parts"], file["channels"]) for file in files][1] == (2, 5, [1, 1])
    with Image.open(tmp_path / "o" / "a" / names[2]) as image:
        note = json.loads(image.text["surgery"])  # type: ignore[attr-defined]
    assert (note["part"], note["parts"], len(note["low"])) == (2, 5, 1)
    text = printed(report_view(report, 120), 120)
    assert "in 5 parts" in text
    assert "1 operation is drawn in parts, since one picture would be too large for viewers" in text
