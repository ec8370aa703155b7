"""Plots over depth, as SVG and as pixels."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np

from surgery.builtin import PAPER, WARNING
from surgery.diagnosis.depth_plots import plot_over_depth
from surgery.diagnosis.plot_shapes import Box, Label, to_image, to_svg
from surgery.diagnosis.result import DiagnosisRow
from surgery.types import Operation

SVG = "{http://www.w3.org/2000/svg}"
RED, INK = (255, 0, 0), (0, 0, 0)


def row(path: str, index: int, *numbers: float) -> DiagnosisRow:
    channel = int(np.argmax(numbers)) if len(numbers) > 1 else None
    operation = Operation(path, path, "conv2d", index)
    return DiagnosisRow(operation, "grid", max(numbers), "largest", np.array(numbers), channel)


def parse(content: bytes) -> ET.Element:
    return ET.fromstring(content)  # noqa: S314 - our own


def test_a_box_has_the_same_pixels_in_both_forms() -> None:
    boxes = [Box(10, 20, 30, 5, RED)]
    pixels = np.asarray(to_image(boxes, 64, 48))
    red = np.argwhere((pixels == RED).all(2))
    assert (*red.min(0), *red.max(0)) == (20, 10, 24, 39)
    assert pixels[0, 0].tolist() == list(PAPER)
    paper, box = parse(to_svg(boxes, 64, 48, "t")).findall(f"{SVG}rect")
    assert (paper.get("width"), paper.get("height")) == ("64.0", "48.0")
    assert [box.get(name) for name in ("x", "y", "width", "height", "fill")] == [
        "10.0",
        "20.0",
        "30.0",
        "5.0",
        "#ff0000",
    ]


def test_an_upright_label_ends_at_its_place() -> None:
    pixels = np.asarray(to_image([Label(30, 10, "down1.conv", 12, INK, "end", is_upright=True)], 60, 120)).astype(int)
    dark = np.argwhere(pixels.sum(2) < 300)
    assert 10 <= dark[:, 0].min() <= 14
    assert dark[:, 0].max() > 60  # so long is the text, from top to bottom
    assert abs(dark[:, 1].mean() - 30) < 4


def test_texts_of_users_are_escaped() -> None:
    content = to_svg([Label(1, 2, "a<b & \x07c", 12, INK)], 10, 10, "<script>")
    tree = parse(content)
    assert (tree.findtext(f"{SVG}text") or "").startswith("a<b & ")
    assert tree.findtext(f"{SVG}title") == "<script>"


def test_each_operation_has_a_bar_as_high_as_its_number_and_findings_stand_out() -> None:
    rows = [row("a", 1, 0.1, 0.3), row("b", 2, 0.2, 0.6), row("c", 3, 0.6)]
    shapes, width, height = plot_over_depth("grid in it", "share: how to read it", rows, 0.5, {"b"})
    tree = parse(to_svg(shapes, width, height, "grid"))
    bars = [each for each in tree.findall(f"{SVG}rect") if each.get("width") == "12.0"]
    heights = [float(each.get("height") or 0) for each in bars if each.get("height") != "3.0"]
    assert [round(each / heights[2], 3) for each in heights] == [0.5, 0.333, 1, 0.667, 1, 1]
    red = "#{:02x}{:02x}{:02x}".format(*WARNING)
    assert [each.get("fill") == red for each in bars] == [False, False, False, True, True, False, False]
    labels = [each.text for each in tree.findall(f"{SVG}text")]
    assert labels[-4:-1] == ["a", "b", "c"]
    assert labels[-1] == "a finding above 0.5"
    assert to_image(shapes, width, height).size == (width, height)


def test_a_measure_that_is_zero_everywhere_has_a_plot_too() -> None:
    shapes, width, height = plot_over_depth("dead", "", [row("a", 1, 0.0), row("b", 2, float("inf"))], None, ())
    assert to_image(shapes, width, height).size == (640, height)
