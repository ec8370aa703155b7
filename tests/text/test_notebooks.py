"""The HTML and the reprs of the project's values."""

from __future__ import annotations

import base64
import copy
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import surgery
from surgery.builtin import Zero
from surgery.graph.listings import Listing
from surgery.models.pix2pix.unet import UNet
from surgery.output import Failure, Report, RunStart
from surgery.text.html import MAX_PICTURES, MAX_TABLE_ROWS, html_table

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return UNet(6, width=2).eval()


@pytest.fixture(scope="module")
def opened(model: nn.Module) -> Any:
    traced = surgery.trace(model, torch.zeros(1, 3, 64, 64))
    return surgery.insert(traced, surgery.select(traced, "*"))


def pictures(html: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_the_reprs_of_results_are_short(model: nn.Module, opened: Any, tmp_path: Path) -> None:
    image = torch.zeros(1, 3, 64, 64)
    activations = surgery.record(opened, image)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    report = surgery.extract(model, tmp_path / "a.png", out=tmp_path / "out")
    certificate = surgery.certify(model, opened, image)
    assert repr(activations[0]) == "Activation('down1.conv', (1, 2, 32, 32) float32)"
    assert repr(activations[0].operation) == "Operation('down1.conv', conv2d, (1, 2, 32, 32))"
    assert repr(activations[0].pictures[0]).startswith("Picture(")
    assert repr(activations[0].levels).startswith("Levels((2, 32, 32), from ")
    how = "traced symbolically, verified on an example"
    assert repr(certificate) == f"Certificate(UNet: 39 operations, 39 extracted; {how}; the same, bit for bit)"
    assert re.fullmatch(r"Report\('.*/out': 1 image, \d+ files, 41 operations, [\d.]+ s\)", repr(report))
    assert re.fullmatch(r"OperationSummary\('input', -1 to -1(, 3/3 constant)?\)", repr(report.summaries[0]))
    assert repr(surgery.path("a") & surgery.op("b")) == "Selection('(a & op:b)')"
    start = RunStart(tmp_path, (tmp_path,) * 9, surgery.operations(opened), {})
    assert repr(start).endswith(": 9 images, 39 operations)")
    for value in (activations, surgery.operations(opened), surgery.select(opened, "*")):
        lines = repr(value).splitlines()
        assert len(lines) == 23
        assert lines[-2:] == [f"  ... and {len(value) - 20} more", ")"]
        assert max(map(len, lines)) < 100
        assert isinstance(value, tuple)
        assert repr(value).isascii()
    assert repr(surgery.record(opened, image)[:1]).count("Activation(") == 1
    assert len(copy.copy(surgery.operations(opened))) == 39


def test_a_notebook_shows_pictures_of_bounded_number_and_size(opened: Any) -> None:
    activations = surgery.record(opened, torch.randn(1, 3, 64, 64))
    shown = activations._repr_html_()
    assert len(pictures(shown)) == MAX_PICTURES
    assert max(max(picture.size) for picture in pictures(shown)) <= 128
    assert shown.count("<tr>") == len(activations) + 1
    assert "down1.conv" in shown
    (one,) = pictures(activations[0]._repr_html_())
    assert np.array_equal(np.asarray(one), np.asarray(activations[0].pictures[0].image()))
    assert len(shown) < 400_000


def test_a_notebook_shows_gradients_beside_activations(opened: Any) -> None:
    activations = surgery.record(opened, torch.randn(1, 3, 64, 64), gradients="output")
    shown = activations._repr_html_()
    assert len(pictures(shown)) == MAX_PICTURES
    assert ">gradient</th>" in shown
    gradient = activations[0].gradient
    assert gradient is not None
    assert np.array_equal(np.asarray(pictures(shown)[1]), np.asarray(gradient.pictures[0].image()))
    assert ">gradient<" not in surgery.record(opened, torch.randn(1, 3, 64, 64))._repr_html_()


def test_large_pictures_are_scaled_down() -> None:
    (picture,) = surgery.draw(torch.randn(1, 1, 2100, 3000))
    with Image.open(io.BytesIO(picture._repr_png_())) as shown:
        assert shown.size == (2048, 1434)
    (small,) = surgery.draw(torch.randn(1, 1, 21, 30))
    with Image.open(io.BytesIO(small._repr_png_())) as shown:
        assert (shown.size, shown.mode) == ((small.pixels.shape[1], small.pixels.shape[0]), "P")


def test_reports_and_certificates_are_tables(model: nn.Module, opened: Any, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    report = surgery.extract(model, [tmp_path / "a.png", tmp_path / "<b>.png"], out=tmp_path / "out")
    shown = report._repr_html_()
    assert shown.count("<tr>") == 42
    assert "there is no image" in shown
    assert "&lt;b&gt;.png" in shown
    assert len(pictures(shown)) == 1  # the sheet
    assert max(pictures(shown)[0].size) <= 1024
    certificate = surgery.certify(model, opened, torch.zeros(1, 3, 64, 64))._repr_html_()
    assert "<td" in certificate
    assert "the same, bit for bit" in certificate
    assert "39 ✓" in certificate


def test_names_are_escaped_in_html() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"<script>alert(1)</script>": x + 1, "\x1b[31m": x + 2}

    hostile = "<img src=x onerror=alert(1)>\x1b[2J"
    report = Report(__import__("pathlib").Path(hostile), 1, 1, (Failure(hostile, hostile),), (), 1.0, notes=(hostile,))
    for html in (report._repr_html_(), html_table(hostile, [hostile], [[hostile]])):
        assert "<img" not in html
        assert "\x1b" not in html
    traced = surgery.trace(Odd(), torch.zeros(1, 3, 4, 4))
    (operation, *_) = surgery.operations(traced)
    renamed = type(operation)(hostile, hostile, hostile, 1, source=hostile)
    for html in (type(surgery.operations(traced))([renamed])._repr_html_(),):
        assert "<img" not in html
        assert "&lt;img" in html
        assert "\x1b" not in html


def test_html_has_the_reason_in_place_of_a_picture_that_can_not_be_drawn() -> None:
    class Numbers(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x, x).resolve_conj() * 1j

    traced = surgery.trace(Numbers(), torch.zeros(1, 3, 4, 4))
    for activation in surgery.record(surgery.insert(traced, surgery.select(traced, "*")), torch.zeros(1, 3, 4, 4)):
        assert activation.path in activation._repr_html_()
    assert repr(Listing()) == "()"


def test_tables_are_bounded() -> None:
    shown = html_table("", ["a"], [[number] for number in range(1000)])
    assert shown.count("<tr>") == MAX_TABLE_ROWS + 1
    assert f"and {1000 - MAX_TABLE_ROWS} more" in shown


def test_a_rewritten_model_shows_its_operations_and_extractors(model: nn.Module) -> None:
    traced = surgery.trace(model, torch.zeros(1, 3, 64, 64))
    opened = surgery.insert(traced, surgery.select(traced, "op:cat"))
    shown = opened._repr_html_()
    assert "UNet: 39 operations, 5 extracted" in shown
    assert shown.count("◉ extracted") == 5
    edited = surgery.edit(traced, surgery.path("up3.cat"), Zero())
    assert "UNet: 40 operations, 1 edited" in edited._repr_html_()
    assert "extracted" not in traced._repr_html_()


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu() if x.sum() > 0 else x.tanh()


class Shown(Branching):
    def _repr_html_(self) -> str:
        return "<b>mine</b>"


def test_an_observed_model_shows_its_operations_unless_its_class_shows_something(model: nn.Module) -> None:
    traced = surgery.trace(Branching(), torch.ones(1, 3, 8, 8))
    opened = surgery.insert(traced, surgery.select(traced, "relu"))
    assert "1 extracted" in opened._repr_html_()
    assert "relu" in opened._repr_html_()
    assert surgery.trace(Shown(), torch.ones(1, 3, 8, 8))._repr_html_() == "<b>mine</b>"


def test_a_picture_shows_itself_in_at_most_200_kilobytes(opened: Any) -> None:
    picture = surgery.draw(torch.rand(1, 64, 256, 256))[0]
    shown = picture._repr_html_()
    assert shown.startswith("<div>Picture(")
    assert len(shown) < 205_000
    assert max(pictures(shown)[0].size) > 150


def test_a_report_links_to_its_page(model: nn.Module, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    folder = tmp_path / "<o>'#"
    report = surgery.extract(model, tmp_path / "a.png", out=folder, at="op:cat")
    assert "walk through the run" not in report._repr_html_()
    report.page()
    (address,) = re.findall(r'<a href="([^"]*)"', report._repr_html_())
    assert address.endswith("/%3Co%3E%27%23/index.html")
