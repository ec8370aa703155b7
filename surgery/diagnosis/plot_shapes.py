"""Plots as rectangles and texts, which are written as SVG or drawn as pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.builtin import PAPER, font
from surgery.text import escape_html

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

Color: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle, in pixels from the top left."""

    left: float
    top: float
    width: float
    height: float
    color: Color


@dataclass(frozen=True, slots=True)
class Label:
    """A text in one line. An upright one runs from bottom to top and ends at its place."""

    left: float
    top: float
    """Of the middle of the line."""
    text: str
    size: int
    color: Color
    anchor: Literal["start", "middle", "end"] = "start"
    is_upright: bool = False


Shape: TypeAlias = Box | Label


def to_svg(shapes: Sequence[Shape], width: int, height: int, title: str) -> bytes:
    """Return an SVG file of shapes on paper."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    paper = _svg_shape(Box(0, 0, width, height, PAPER))
    lines = [head, f"<title>{escape_html(title)}</title>", paper, *map(_svg_shape, shapes), "</svg>"]
    return ("\n".join(lines) + "\n").encode()


def _svg_shape(shape: Shape) -> str:
    color = "#{:02x}{:02x}{:02x}".format(*shape.color)
    if isinstance(shape, Box):
        place = f'x="{shape.left:.1f}" y="{shape.top:.1f}" width="{shape.width:.1f}" height="{shape.height:.1f}"'
        return f'<rect {place} fill="{color}"/>'
    left, top = f"{shape.left:.1f}", f"{shape.top:.1f}"
    turned = f' transform="rotate(-90 {left} {top})"' if shape.is_upright else ""
    style = f'font-family="DejaVu Sans, sans-serif" font-size="{shape.size}" dominant-baseline="central"'
    anchor = f'text-anchor="{shape.anchor}" fill="{color}"'
    return f'<text x="{left}" y="{top}" {style} {anchor}{turned}>{escape_html(shape.text)}</text>'


def to_image(shapes: Sequence[Shape], width: int, height: int) -> Image.Image:
    """Return an RGB image of shapes on paper."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    for shape in shapes:
        if isinstance(shape, Box):
            right, bottom = shape.left + max(shape.width, 1) - 1, shape.top + max(shape.height, 1) - 1
            pen.rectangle((round(shape.left), round(shape.top), round(right), round(bottom)), fill=shape.color)
        elif shape.is_upright:
            _draw_upright(page, shape)
        else:
            anchor = {"start": "lm", "middle": "mm", "end": "rm"}[shape.anchor]
            pen.text((shape.left, shape.top), shape.text, fill=shape.color, font=font(shape.size), anchor=anchor)
    return page


def _draw_upright(page: Image.Image, label: Label) -> None:
    from PIL import Image, ImageDraw

    length, height = round(font(label.size).getlength(label.text)) + 2, label.size + 6
    line = Image.new("RGB", (length, height), PAPER)
    ImageDraw.Draw(line).text((0, height / 2), label.text, fill=label.color, font=font(label.size), anchor="lm")
    shift = {"start": length, "middle": length // 2, "end": 0}[label.anchor]
    page.paste(line.rotate(90, expand=True), (round(label.left - height / 2), round(label.top) - shift))
