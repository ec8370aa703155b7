"""What one thing that a plugin offers does, as a picture or in words, on the model and the input that ship."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from surgery.builtin import DEFAULT_RECIPE, Grid
from surgery.data import inputs
from surgery.drawing import SPECIAL_CODES, make_image_activations, palette
from surgery.errors import SurgeryError, first_line
from surgery.extraction import draw, extract, record
from surgery.inputs import input_channels, load_image
from surgery.models import load_model
from surgery.plugins import Plugins
from surgery.rewriting import insert, select
from surgery.stages import ModelFamily
from surgery.tracing import trace
from surgery.types import LEVELS, Operation

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.plugins import Kind
    from surgery.types import Picture

OPERATION = "down1.conv"
"""Whose activation is drawn: eight channels of 128x128, of windows, trees, sky and edges."""
BAR = (4, 64)
"""Pixels of a colormap's bar: the width of a level, and the height of all."""
GAP = 4


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture, and what is to be said of it."""

    image: Image.Image | None
    said: tuple[str, ...] = ()


def sample_of(kind: Kind, thing: Any) -> Sample:
    """What a thing of a kind does. Raises SurgeryError where it does nothing that can be shown.

    A colormap is drawn as a bar from low to high; a transform, a normalizer or a tiler draws `OPERATION`; a sink is
    given a run, and of the pictures that it writes the largest is taken; a reader reads the input that ships.
    """
    if kind == "colormap":
        levels = np.arange(LEVELS, dtype=np.uint8)[None].repeat(BAR[1], 0).repeat(BAR[0], 1)
        return Sample(Image.fromarray(palette(thing)[levels]))
    if kind in ("transform", "normalizer", "tiler"):
        given: dict[str, Any] = {"transforms": [thing]} if kind == "transform" else {kind: thing}
        given = {"tiler": Grid(columns=4), **given}
        return Sample(_side_by_side(draw(activation(), **given)), (f"{OPERATION} of facades",))
    if kind == "sink":
        return _written(thing)
    if kind == "model":
        return Sample(None, _model_in_words(thing))
    return _read(thing) if kind == "reader" else Sample(None)


@cache
def activation() -> Tensor:
    """``(1, 8, 128, 128)`` float32: what `OPERATION` of the shipped model computes on a shipped input."""
    traced = trace(load_model("facades", plugins=Plugins(bare=True)).eval())
    opened = insert(traced, select(traced, OPERATION))
    (recorded,) = record(opened, load_image(inputs()[0], size=256))
    return recorded.values[None] if recorded.values.ndim == 3 else recorded.values


def _side_by_side(pictures: tuple[Picture, ...], most: int = 8) -> Image.Image:
    images = [picture.image().convert("RGB") for picture in pictures[:most]]
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    whole = Image.new("RGB", (width, max(image.height for image in images)), SPECIAL_CODES["background"][1])
    x = 0
    for image in images:
        whole.paste(image, (x, 0))
        x += image.width + GAP
    return whole


def _written(sink: Any) -> Sample:
    """The files that a sink writes in a run, and the largest picture among them."""
    with TemporaryDirectory() as place:
        model = load_model("facades", plugins=Plugins(bare=True))
        extract(model, inputs()[0], at=[OPERATION, "up3.cat"], out=place, sinks=[sink], source="facades")
        files = [file for file in sorted(Path(place).rglob("*")) if file.is_file() and file.name != "manifest.json"]
        said = [f"{file.relative_to(place).as_posix()}  {file.stat().st_size:,} bytes" for file in files]
        images: list[Image.Image] = []
        for file in files:
            with suppress(UnidentifiedImageError, OSError), Image.open(file) as image:
                images.append(image.convert("RGB"))
    largest = max(images, key=lambda image: image.width * image.height, default=None)
    shown = said[:8] + ([f"and {len(said) - 8} files more"] if len(said) > 8 else [])
    return Sample(largest, tuple(shown) or ("no file",))


def _model_in_words(thing: Any) -> tuple[str, ...]:
    if isinstance(thing, ModelFamily):
        names = list(thing.names())
        return (f"a family of {len(names)}: {', '.join(names[:6])}{' and more' if len(names) > 6 else ''}",)
    model = thing()
    said = f"{type(model).__name__}, {sum(parameter.numel() for parameter in model.parameters()):,} parameters"
    side = getattr(getattr(model, "preprocessing", None), "size", None) or getattr(model, "size", None)
    if side is None:
        return (said,)
    height, width = side if isinstance(side, tuple) else (side, side)
    return (f"{said}, takes {input_channels(model)}x{height}x{width}",)


def _read(reader: Any) -> Sample:
    suffixes = tuple(getattr(reader, "suffixes", ()))
    if suffixes:
        return Sample(None, (f"reads {', '.join(suffixes)}",))
    try:
        values = reader(inputs()[0])
    except SurgeryError as error:
        return Sample(None, (first_line(error),))
    operation = Operation("input", "input", "input", 0)
    (shown,) = make_image_activations(operation, values, ["input"], (-1.0, 1.0), DEFAULT_RECIPE)
    return Sample(_side_by_side(shown.pictures), (f"{inputs()[0].name} as {tuple(values.shape)}",))
