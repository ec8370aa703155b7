"""Overview sheets: titles from any file name, pages, and the channels that they show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import nn

import surgery
from surgery.builtin.sinks.sheet import Sheet
from surgery.builtin.sinks.text_fitting import escape_missing_glyphs, font, join_to_width, shorten_to_width, text_width
from surgery.cli.run_views import report_view
from surgery.data import inputs
from surgery.errors import RenderError
from tests.cli.test_graph_view import printed


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 30, 3), nn.AdaptiveAvgPool2d(1))


def extracted(out: Path, sheet: Any, images: Any = None, **more: Any) -> Any:
    more = {"size": 64, "source": "net", **more}
    return surgery.extract(model(), inputs()[:3] if images is None else images, out=out, sinks=[sheet], **more)


def picked(sheet: Path) -> dict[str, list[int]]:
    with Image.open(sheet) as image:
        found: dict[str, list[int]] = json.loads(image.text["picks"])  # type: ignore[attr-defined]
    return found


def size_of(sheet: Path) -> tuple[int, int]:
    with Image.open(sheet) as image:
        return image.size


@pytest.mark.parametrize("letter", "üçéßŁøŽЖщΩλ→…×")
def test_the_font_has_the_letters_of_europe(letter: str) -> None:
    def drawn(text: str) -> Any:
        image = Image.new("L", (80, 60))
        ImageDraw.Draw(image).text((5, 5), text, fill=255, font=font(30))
        return np.asarray(image)

    assert escape_missing_glyphs(letter) == letter
    assert not np.array_equal(drawn(letter), drawn("\uffff"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("図_a", "\\u56f3_a"),
        ("👀", "\\U0001f440"),
        ("a\tb\n", "a\\x09b\\x0a"),
        ("u\u0308", "ü"),
        ("\udc80", "\\udc80"),
        ("\u202e", "\\u202e"),
    ],
)
def test_characters_that_the_font_lacks_are_escaped(text: str, shown: str) -> None:
    assert escape_missing_glyphs(text) == shown


@pytest.mark.parametrize("parts", [["a" * 400, "b"], ["m", "i" * 300], ["x" * 200, "y" * 200], ["a", "b"]])
def test_a_title_is_cut_in_the_middle_of_its_longest_part_only(parts: list[str]) -> None:
    line = join_to_width(parts, "  on  ", 30, 800)
    assert text_width(line, 30) <= 800
    left, right = line.split("  on  ")
    for part, shown in zip(parts, (left, right), strict=True):
        assert shown == part or ("…" in shown and shown[0] == part[0] and shown[-1] == part[-1])
    assert min(parts, key=len) in (left, right) or len(parts[0]) == len(parts[1])
    assert shorten_to_width("down1.conv", 20, 280) == "down1.conv"


@pytest.mark.parametrize("name", ["facade" * 30, "Façade_ü", "図" * 40])
def test_nothing_runs_off_the_sheet(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name[:70]}.png"
    shutil.copy(inputs()[0], file)
    long = "checkpoints/facades_label2photo_unet256_lsgan_batch1_lambda100_run_0007/archive_2024/latest_net_G.pth"
    extracted(tmp_path / "o", Sheet(channels=1, size=32), file, source=long)
    (sheet,) = (tmp_path / "o").glob("*/sheet.png")
    with Image.open(sheet) as image:
        assert (np.asarray(image.convert("L"))[:, -30:] > 200).all()


def test_a_large_network_has_several_pages_of_equal_height_and_the_last_line_says_where(tmp_path: Path) -> None:
    deep = nn.Sequential(*(nn.ReLU() for _ in range(68)))
    report = surgery.extract(deep, inputs()[0], out=tmp_path / "o", size=32, sinks=[Sheet(size=64)])
    pages = sorted((tmp_path / "o").glob("*/sheet*.png"))
    assert [page.name for page in pages] == ["sheet-2.png", "sheet-3.png", "sheet.png"]
    heights = [size_of(page)[1] for page in pages]
    assert max(heights) < 6000
    assert max(heights) - min(heights) < 400
    assert report.overview == tmp_path / "o" / pages[0].parent.name / "sheet.png"
    last = printed(report_view(report, 200), 200).rstrip().splitlines()[-1]
    assert last == f"look at {report.overview}"


@pytest.mark.parametrize("jobs", [1, 2])
def test_all_images_of_a_run_show_the_channels_of_the_first(tmp_path: Path, jobs: int) -> None:
    broken = tmp_path / "0.png"
    broken.write_bytes(b"nothing")
    report = extracted(tmp_path / "o", Sheet(channels=4), [broken, *inputs()[:3]], jobs=jobs)
    assert (report.images, len(report.failed)) == (3, 1)
    sheets = sorted((tmp_path / "o").glob("*/sheet.png"))
    assert len(sheets) == 3
    assert len({json.dumps(picked(sheet)) for sheet in sheets}) == 1
    alone = extracted(tmp_path / "one", Sheet(channels=4), inputs()[0])
    assert alone.overview is not None
    assert picked(sheets[0]) == picked(alone.overview)
    assert {path: len(channels) for path, channels in picked(sheets[0]).items()} == {"0": 4, "1": 4, "2": 4}


@pytest.mark.parametrize("given", ["folder", "sheet", "manifest"])
def test_another_run_takes_the_channels_of_an_earlier_one(tmp_path: Path, given: str) -> None:
    first = extracted(tmp_path / "first", Sheet(channels=3), inputs()[0])
    assert first.overview is not None
    where = {"folder": first.folder, "sheet": first.overview, "manifest": first.folder / "manifest.json"}[given]
    second = extracted(tmp_path / "second", Sheet(channels=8, pick=str(where)), inputs()[1])
    assert second.overview is not None
    assert picked(second.overview) == picked(first.overview)
    third = extracted(tmp_path / "third", Sheet(channels=3), inputs()[1])
    assert third.overview is not None
    assert picked(third.overview) != picked(first.overview)


@pytest.mark.parametrize(
    ("pick", "expected"),
    [
        ("first", [0, 1, 2, 3]),
        ("spread", [0, 13, 26, 39]),
        ("5/0/39", [5, 0, 39]),
        ("0/1/2/3/4/5/6/7", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_the_option_pick_decides_which_channels_are_shown(tmp_path: Path, pick: str, expected: list[int]) -> None:
    report = extracted(tmp_path / "o", Sheet(channels=4, size=32, pick=pick), inputs()[0], at="1")
    assert report.overview is not None
    assert picked(report.overview) == {"1": expected}


@pytest.mark.parametrize("pick", ["informative", "1/x", "no/such/folder", "-1", ""])
def test_an_unknown_pick_is_refused_in_one_line(pick: str, tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="pick is telling, each, first, spread, channels such as 0/3/7, or a sheet"):
        Sheet(pick=pick)
    (tmp_path / "sheet.png").write_bytes(inputs()[0].read_bytes())
    with pytest.raises(RenderError, match="does not say which channels were picked"):
        Sheet(pick=str(tmp_path / "sheet.png"))
