"""Previews of the values that plugins offer: a picture or a few lines, made with the shipped model and input."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from surgery.builtin import DEFAULT_RECIPE, Grid, MinMax
from surgery.data import inputs
from surgery.drawing import SPECIAL_CODES, make_image_activations, make_palette
from surgery.editing import edit_values
from surgery.errors import SurgeryError, first_line
from surgery.extraction import draw, extract, record
from surgery.graph import named_tensors
from surgery.inputs import input_channels, load_image
from surgery.models import load_model
from surgery.plugins import Plugins
from surgery.rewriting import insert, select
from surgery.stages import ModelFamily
from surgery.text import MANIFEST_FILE, format_count
from surgery.tracing import trace
from surgery.types import LEVELS, Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.plugins import Kind
    from surgery.types import Picture

PREVIEW_OPERATION = "down1.conv"
"""The operation whose activation is drawn: eight channels of 128x128 that show windows, trees, sky and edges."""
PREVIEW_MEASURED = (PREVIEW_OPERATION, "down5.norm", "up4.deconv", "up1.tanh")
"""The operations whose numbers are listed for a measure."""
COLORMAP_CODE_SIZE = (4, 64)
"""Width and height in pixels of one code in the bar of a colormap."""
GAP = 4
"""Pixels between pictures that stand side by side."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A picture, or None, and lines of text."""

    image: Image.Image | None
    lines: tuple[str, ...] = ()


def preview(kind: Kind, value: Any) -> Preview:
    """Return a preview of a value of a plugin kind. Raises SurgeryError when the value fails.

    A colormap is drawn as a bar from low to high. A transform, a normalizer or a tiler draws `PREVIEW_OPERATION`, an
    edit draws it before and after. The numbers of a measure are listed for a few operations. A sink gets a run of its
    own, and the largest picture among its files is shown. A reader reads the shipped input. A model is described.
    """
    if kind == "colormap":
        width, height = COLORMAP_CODE_SIZE
        codes = np.arange(LEVELS, dtype=np.uint8)[None].repeat(height, 0).repeat(width, 1)
        return Preview(Image.fromarray(make_palette(value)[codes]))
    if kind in ("transform", "normalizer", "tiler"):
        stages: dict[str, Any] = {"transforms": [value]} if kind == "transform" else {kind: value}
        pictures = draw(preview_activation(), **{"tiler": Grid(columns=4), **stages})
        return Preview(_side_by_side(pictures), (f"{PREVIEW_OPERATION} of facades",))
    if kind == "edit":
        return _edit_preview(value)
    others: dict[Kind, Callable[[Any], Preview]] = {
        "sink": _sink_preview,
        "measure": _measure_preview,
        "model": _model_preview,
        "reader": _reader_preview,
    }
    return others[kind](value) if kind in others else Preview(None)


@cache
def preview_activation(number: int = 0) -> Tensor:
    """``(1, 8, 128, 128)`` float32: the activation of `PREVIEW_OPERATION` of the shipped model on a shipped input."""
    traced = trace(load_model("facades", plugins=Plugins(bare=True)).eval())
    rewritten = insert(traced, select(traced, PREVIEW_OPERATION))
    (activation,) = record(rewritten, load_image(inputs()[number], size=256))
    return activation.values[None] if activation.values.ndim == 3 else activation.values


def _edit_preview(edit: Any) -> Preview:
    line = f"{PREVIEW_OPERATION} of facades before and after"
    if getattr(edit, "needs_reference", False):
        edit = edit.of_reference(preview_activation(1))
        line += f", with {inputs()[1].name} as the reference"
    values = preview_activation()
    both = torch.cat([values, edit_values(edit, values, PREVIEW_OPERATION)])
    return Preview(_side_by_side(draw(both, tiler=Grid(columns=4), normalizer=MinMax(per="batch"))), (line,))


def _measure_preview(measure: Any) -> Preview:
    """List how to read a measure, and its numbers of a few operations of the shipped model."""
    reading = getattr(measure, "reading", "")
    unit = getattr(measure, "unit", "")
    lines = [f"{unit}: {reading}"] if unit and reading else [unit or reading] * bool(unit or reading)
    with TemporaryDirectory() as folder:
        model = load_model("facades", plugins=Plugins(bare=True))
        settings: dict[str, Any] = {"sinks": [], "measures": [measure], "watchers": [], "source": "facades"}
        extract(model, inputs()[0], at=list(PREVIEW_MEASURED), out=folder, **settings)
        (image,) = json.loads((Path(folder) / MANIFEST_FILE).read_text())["images"]
    for entry in image["activations"]:
        for numbers in entry.get("measures", {}).values():
            known = [(number, channel) for channel, number in enumerate(numbers) if number is not None]
            if known and entry["path"] in PREVIEW_MEASURED:
                largest, channel = max(known)
                mean = sum(number for number, _ in known) / len(known)
                where = f", largest {largest:.3g} in channel {channel}" if len(numbers) > 1 else ""
                lines.append(f"{entry['path']} of facades: {mean:.3g}{' on average' if where else ''}{where}")
    return Preview(None, tuple(lines))


def _side_by_side(pictures: tuple[Picture, ...], limit: int = 8) -> Image.Image:
    images = [picture.image().convert("RGB") for picture in pictures[:limit]]
    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    row = Image.new("RGB", (width, max(image.height for image in images)), SPECIAL_CODES["background"][1])
    x = 0
    for image in images:
        row.paste(image, (x, 0))
        x += image.width + GAP
    return row


def _sink_preview(sink: Any, limit: int = 8) -> Preview:
    """List the files that a sink writes in a run, and show the largest picture among them."""
    with TemporaryDirectory() as folder:
        model = load_model("facades", plugins=Plugins(bare=True))
        extract(model, inputs()[0], at=[PREVIEW_OPERATION, "up3.cat"], out=folder, sinks=[sink], source="facades")
        files = [file for file in sorted(Path(folder).rglob("*")) if file.is_file() and file.name != "manifest.json"]
        lines = [f"{file.relative_to(folder).as_posix()}  {file.stat().st_size:,} bytes" for file in files]
        images: list[Image.Image] = []
        for file in files:
            with suppress(UnidentifiedImageError, OSError), Image.open(file) as image:
                images.append(image.convert("RGB"))
    largest = max(images, key=lambda image: image.width * image.height, default=None)
    if len(lines) > limit:
        lines[limit:] = [f"and {format_count(len(lines) - limit, 'file')} more"]
    return Preview(largest, tuple(lines) or ("no file",))


def _model_preview(value: Any) -> Preview:
    if isinstance(value, ModelFamily):
        names = list(value.names())
        return Preview(
            None, (f"a family of {len(names)}: {', '.join(names[:6])}{' and more' if len(names) > 6 else ''}",)
        )
    model = value()
    line = f"{type(model).__name__}, {sum(parameter.numel() for parameter in model.parameters()):,} parameters"
    size = getattr(getattr(model, "preprocessing", None), "size", None) or getattr(model, "size", None)
    if size is not None:
        height, width = size if isinstance(size, tuple) else (size, size)
        line += f", takes {input_channels(model)}x{height}x{width}"
    return Preview(None, (line,))


def _reader_preview(reader: Any) -> Preview:
    suffixes = tuple(getattr(reader, "suffixes", ()))
    if suffixes:
        return Preview(None, (f"reads {', '.join(suffixes)}",))
    try:
        values = reader(inputs()[0])
    except SurgeryError as error:
        return Preview(None, (first_line(error),))
    if not isinstance(values, Tensor) or values.ndim != 4 or values.shape[1] not in (1, 3):
        shapes = ", ".join(str(tuple(tensor.shape)) for _, tensor in named_tensors(values))
        return Preview(None, (f"{inputs()[0].name} as {shapes}",))
    operation = Operation("input", "input", "input", 0)
    (activation,) = make_image_activations(operation, values, ["input"], (-1.0, 1.0), DEFAULT_RECIPE)
    return Preview(_side_by_side(activation.pictures), (f"{inputs()[0].name} as {tuple(values.shape)}",))
