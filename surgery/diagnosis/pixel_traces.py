"""`PixelTrace`: what a pixel of the output depends on, in the image and in each operation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.diagnosis.pixel_pictures import COLORS, draw_field, draw_input, draw_marked
from surgery.extraction import make_manifest, write_files
from surgery.output import as_json
from surgery.studies import SIDE, StudyCell, StudyPage, color_bar
from surgery.text import MAX_TABLE_ROWS, encode_png, escape_html, file_name, format_count, html_table, image_tag
from surgery.types import Picture

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from PIL import Image
    from torch import Tensor, nn

    from surgery.diagnosis.pixel_fields import PixelField
    from surgery.stages import Limits

_SHOWN_ROWS = 12
_PICTURE_SIDE = 256
"""The least side of a picture in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class PixelTrace(Sequence["PixelField"]):
    """The fields of a pixel: the sequence of them, that of the image first, then in order of execution.

    With `pandas.DataFrame(trace.records())` it is a table.
    """

    model: nn.Module = field(repr=False)
    """The traced model."""
    pixel: tuple[int, int]
    """Row and column in the output."""
    channel: int | None
    """The channel of the output; None for all."""
    tensor: str
    """The key of the tensor in the output, if it holds several."""
    fields: tuple[PixelField, ...]
    image: Tensor
    """The image, ``(C, H, W)``, on the CPU."""
    output: Tensor
    """The output of which the pixel is, ``(..., H, W)``, on the CPU."""
    limits: Limits
    """The values of black and white of the image."""
    notes: tuple[str, ...] = ()
    """What is not exact, and what was left out, a line each."""

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, index: Any) -> Any:
        return self.fields[index]

    def __iter__(self) -> Iterator[PixelField]:
        return iter(self.fields)

    def __repr__(self) -> str:
        shown = self.fields[:_SHOWN_ROWS]
        width = max((len(each.path) for each in shown), default=0)
        lines = [self.title(), *(f"  {each.path:{width}}  {each.describe()}" for each in shown)]
        return "\n".join([*lines, *([f"  ... and {len(self) - _SHOWN_ROWS} more"] if len(self) > _SHOWN_ROWS else [])])

    def title(self) -> str:
        """Return one line: the model, the pixel, the number of fields."""
        channel = "" if self.channel is None else f", channel {self.channel}"
        tensor = f" of {self.tensor}" if self.tensor else ""
        height, width = self.output.shape[-2:]
        pixel = f"pixel {self.pixel[0]},{self.pixel[1]} of {height}x{width}{tensor}{channel}"
        return f"{type(self.model).__name__}, {pixel}: {format_count(len(self), 'field')}"

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each field: path, kind, index, the maps' size, the rectangle, areas and radii."""
        return [each.record() for each in self]

    def picture(self, position: int = 0) -> Picture:
        """Return the picture of the field at a position, over the image: 0 is that of the image itself.

        An input of two images has them side by side, with the field over each.
        """
        drawn = draw_field(self.fields[position], draw_input(self.image, self.limits), _PICTURE_SIDE)
        return _as_picture(np.concatenate([np.asarray(each) for each in drawn], 1))

    @property
    def sheet(self) -> Picture:
        """All fields on one page, with the image and the output."""
        images = draw_input(self.image, self.limits)
        marked = draw_marked(self.output, self.limits, self.pixel, SIDE)
        legend = [
            "outline: the positions that can reach the pixel",
            "glow: how much they do, by gradient, of the largest",
            "bar: the share of positions that can",
            *self.notes,
        ]
        return _as_picture(
            StudyPage(
                title=[f"{type(self.model).__name__}: what pixel {self.pixel[0]},{self.pixel[1]} depends on"],
                details=[self.title().partition(", ")[2]],
                heading=[*(("input", image) for image in images), ("output", marked)],
                legend=legend,
                scale=(color_bar(COLORS), "1/1000", "largest gradient"),
                cells=[_make_cell(each, images) for each in self],
            ).draw()
        )

    def save(
        self,
        out: str | os.PathLike[str] = "traced-back",
        *,
        source: str | None = None,
        original: nn.Module | None = None,
        overwrite: bool = False,
    ) -> tuple[str, ...]:
        """Write a PNG for each field, ``fields.json``, a sheet and a manifest, and return the names of the files.

        The sheet is the last. `source` says where the model comes from, and `original` is the model that was traced,
        which may know where its weights come from. Raises OutputError for a folder that holds a run, unless `overwrite`
        is true, and for one that can't be written.
        """
        settings: dict[str, Any] = {"pixel": list(self.pixel)}
        settings |= {} if self.channel is None else {"channel": self.channel}
        settings |= {} if not self.tensor else {"tensor": self.tensor}
        manifest = make_manifest(self.model, original, source, settings)
        pictures = {}
        for position, each in enumerate(self):
            shown = {"shows": f"what pixel {self.pixel[0]},{self.pixel[1]} depends on in {each.path}", **each.record()}
            pictures[f"{file_name(each.path, each.operation.index)}.png"] = self.picture(position), shown
        content = {"model": type(self.model).__name__, **settings, "notes": self.notes, "fields": self.records()}
        files = {"fields.json": json.dumps(json.loads(as_json(content)), indent=1).encode()}
        operations = list({each.operation.path: each.operation for each in self if each.operation.index}.values())
        return write_files(out, manifest, operations, pictures, self.sheet, files=files, overwrite=overwrite)

    def _repr_png_(self) -> bytes:
        """Return the sheet as PNG for a notebook, at most 2048 pixels wide and high."""
        return encode_png(self.sheet.image(), 2048)

    def _repr_html_(self) -> str:
        """Return a table for notebooks, with the picture of the image's field."""
        rows = [table_cells(each) for each in self.fields[:MAX_TABLE_ROWS]]
        header = list(table_cells(self.fields[0])) if self.fields else []
        notes = "".join(f"<div>{escape_html(note)}</div>" for note in self.notes)
        picture = image_tag(self.picture().image(), 512) if self.fields else ""
        return html_table(self.title(), header, [list(row.values()) for row in rows]) + notes + picture


def table_cells(each: PixelField) -> dict[str, str]:
    """Return the cells of a field's row in a table, by the names of the columns."""
    rectangle, pixels, area, radius = each.rectangle, each.pixels, each.effective_area(), each.radius()
    can = "?" if each.reach is None else "none" if rectangle is None else f"{rectangle[2]}x{rectangle[3]}"
    return {
        "operation": each.path,
        "maps": f"{each.size[0]}x{each.size[1]}",
        "can reach": can,
        "in pixels": "" if pixels is None else f"{pixels[0]}x{pixels[1]}",
        "95 % within": "no gradient" if radius is None else f"{radius:.1f} px",
        "95 % in": "" if area is None else format_count(area, "position"),
    }


def _make_cell(each: PixelField, images: Sequence[Image.Image]) -> StudyCell:
    cells = table_cells(each)
    area, radius = each.area, each.radius()
    return StudyCell(
        title=each.path,
        number=cells["can reach"],
        share=None if area is None else area / (each.size[0] * each.size[1]),
        details=f"of {cells['maps']}" + ("" if radius is None else f"   95 % in {radius:.0f} px"),
        pictures=draw_field(each, images, SIDE),
    )


def _as_picture(pixels: Any) -> Picture:
    return Picture(np.asarray(pixels), None, np.zeros(1), np.ones(1))
