"""The sink that draws the overview: one sheet for each image, one row for each operation."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from surgery.builtin.sinks import channel_picks
from surgery.builtin.sinks.text_fitting import font, join_to_width, shorten_to_width
from surgery.errors import RenderError
from surgery.output import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from surgery.output import OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation, Facts

PAPER, INK, SOFT, RULE, WARN = (250, 250, 248), (28, 30, 36), (120, 124, 134), (222, 222, 218), (190, 60, 20)
MARGIN, GUTTER, LABEL = 40, 10, 300
LEAST_WIDTH = 1000
"""Of a sheet, for what stands in its head."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """`<image>/sheet.png`: every operation in order, each with its name, shape, range and most telling channels.

    The most telling channels are chosen one by one, by contrast (the deviation of the map as it is drawn, half of it
    counted after smoothing, so that structure beats noise) times how little a channel resembles those already chosen
    (one minus the greatest magnitude of correlation). They are shown in order of their numbers. Those of a run's first
    image are shown of all its images, and stand in the sheet's text `picks`, so that another run can be given the same:
    ``--sink sheet:pick=epoch-1`` takes the folder of a run, or one of its sheets.
    """

    channels: int = 8
    """Channels in a row, at most."""
    size: int = 128
    """Side of a thumbnail, in pixels."""
    rows: int = 32
    """Rows on a sheet, at most; what is more goes on `sheet-2.png` and so on."""
    pick: str = "telling"
    """Which channels: telling (of the first image), each (of each image its own), first, spread, numbers such as 0/3/7,
    or those of an earlier run: its folder or a sheet."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise RenderError(f"channels is at least 1, not {self.channels}")
        if self.rows < 1:
            raise RenderError(f"rows is at least 1, not {self.rows}")
        if self.size < 32:
            raise RenderError(f"size is at least 32, not {self.size}")
        channel_picks.check_pick(self.pick)

    deferred: ClassVar[bool] = True
    alone: ClassVar[bool] = True

    @property
    def decides_on_first_image(self) -> bool:
        """Whether the first image of a run decides something for all others."""
        return not channel_picks.ignores_images(self.pick)

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        import numpy as np

        from surgery.drawing import encode_png
        from surgery.types import Picture

        rows: dict[str | None, list[SheetRow]] = {}
        shared = folder.shared.setdefault("sheet", {"picks": {}, "done": False})
        picked = channel_picks.ChannelPicks(self.pick, self.channels, shared["picks"])

        def write(activation: Activation) -> None:
            rows.setdefault(activation.image, []).append(self._row(activation, picked))

        def finished(image: str | None) -> None:
            drawn = rows.pop(image, [])
            if image is None:
                return
            shared["done"] = True
            about = dict(folder.about)
            said = {name: value.encode() for name, value in about.items()}
            said[channel_picks.TEXT_CHUNK] = as_json(
                {row.path: channels for row in drawn if (channels := row.channels)}
            )
            pages = max(1, -(-len(drawn) // self.rows))
            most = max(1, -(-len(drawn) // pages))  # so that the last page is no short one
            for page, start in enumerate(range(0, len(drawn), most), 1):
                name = f"{image}/sheet.png" if page == 1 else f"{image}/sheet-{page}.png"
                with folder.file(name) as path:
                    part = drawn[start : start + most]
                    several = f"rows {start + 1} to {start + len(part)} of {len(drawn)}"
                    count = several if len(drawn) > self.rows else f"{len(drawn)} rows"
                    random = ", random weights" if about.get("weights", "").startswith("random") else ""
                    title = [f"{about.get('model', 'model')}{random}", image]
                    sheet = self._draw(part, title, [count, picked.describe()], about)
                    # Which numpy would ask for twice.
                    pixels = np.frombuffer(sheet.tobytes(), np.uint8).reshape(sheet.height, sheet.width, 3)
                    path.write_bytes(encode_png(Picture(pixels, None, np.zeros(1), np.ones(1)), said, level=2))

        folder.when_finished(finished)

        def dropped(image: str | None) -> None:
            rows.pop(image, None)
            if not shared["done"]:
                shared["picks"].clear()

        folder.when_finished(finished)
        folder.when_dropped(dropped)
        yield write

    def _row(self, activation: Activation, picked: channel_picks.ChannelPicks) -> SheetRow:
        pictures = activation.pictures
        palette = pictures[0].palette if pictures else None
        thumbs: list[tuple[int | None, Image.Image]]
        if palette is None:  # color by nature
            thumbs = [(None, self._fit(picture.image().convert("RGB"), 2, 2)) for picture in pictures[:1]]
        elif (levels := activation.levels).codes.shape[0] == 1:
            thumbs = [(None, self._fit(pictures[0].image().convert("RGB"), min(4, self.channels)))]
        else:
            chosen = picked.channels_of(activation.path, levels)
            thumbs = [(channel, self._fit(_apply_palette(levels.codes[channel], palette))) for channel in chosen]
        shape = " x ".join(map(str, activation.values.shape)) or "one number"
        layout = activation.layout.name
        layout = "" if layout in ("channels-first", "vector", "flat", "image") else layout
        return SheetRow(activation.path, activation.operation.kind, shape, activation.facts, thumbs, palette, layout)

    def _fit(self, image: Image.Image, across: int = 1, down: int = 1) -> Image.Image:
        """Enlarged by a whole factor without smoothing, or reduced by averaging areas, to so many thumbnails."""
        from PIL import Image

        width, height = image.size
        room = self.size * across + GUTTER * (across - 1)
        factor = min(room / width, self.size * down / height)
        if factor >= 1:
            return image.resize((width * int(factor), height * int(factor)), Image.Resampling.NEAREST)
        return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BOX)

    def _draw(self, rows: list[SheetRow], title: list[str], said: list[str], about: dict[str, str]) -> Image.Image:
        from PIL import Image, ImageDraw

        across = max(self.channels, *(len(row.thumbs) for row in rows), 1)
        width = max(2 * MARGIN + LABEL + across * (self.size + GUTTER), LEAST_WIDTH)
        head = 150
        groups = sum(_block_name(a.path) != _block_name(b.path) for a, b in itertools.pairwise(rows))
        steps = [max([self.size, *(thumb.height for _, thumb in row.thumbs)]) + 34 for row in rows]
        sheet = Image.new("RGB", (width, head + sum(steps) + groups * 14 + MARGIN), PAPER)
        pen = ImageDraw.Draw(sheet)
        self._head(sheet, pen, rows, title, said, about)
        y = head
        for row, before, step in zip(rows, [None, *rows], steps, strict=False):
            if before is None or _block_name(before.path) != _block_name(row.path):
                y += 14 if before is not None else 0
                pen.line((MARGIN, y - 8, width - MARGIN, y - 8), fill=RULE, width=2)
            self._label(pen, row, y)
            x = MARGIN + LABEL
            for channel, thumb in row.thumbs:
                sheet.paste(thumb, (x, y))
                if channel is not None:
                    pen.text((x, y + thumb.height + 3), str(channel), fill=SOFT, font=font(13))
                x += max(self.size, thumb.width) + GUTTER
            y += step
        return sheet

    def _head(
        self,
        sheet: Image.Image,
        pen: ImageDraw.ImageDraw,
        rows: list[SheetRow],
        title: list[str],
        said: list[str],
        about: dict[str, str],
    ) -> None:
        from PIL import Image

        room = sheet.width - 2 * MARGIN
        pen.text((MARGIN, 30), join_to_width(title, "  on  ", 30, room), fill=INK, font=font(30))
        count, chosen = said
        words = [f"{count} in order of execution", f"mode {about['mode']}" if "mode" in about else "", chosen]
        words = [*filter(None, [*words, about.get("normalizer", "")])]
        pen.text((MARGIN, 74), join_to_width(words, "   ·   ", 16, room), fill=SOFT, font=font(16))
        palette = next((row.palette for row in rows if row.palette is not None), None)
        if palette is None:
            return
        from surgery.types import LEVELS

        bar = Image.fromarray(palette[None, :LEVELS].repeat(14, axis=0)).resize((LEVELS, 14))
        left = MARGIN + LABEL
        sheet.paste(bar, (left, 108))
        pen.text((left - 8, 115), "low", fill=SOFT, font=font(14), anchor="rm")
        pen.text((left + LEVELS + 8, 115), "high of its limits", fill=SOFT, font=font(14), anchor="lm")
        if any(row.facts.nan or row.facts.inf for row in rows):
            from surgery.drawing import SPECIAL_CODES

            x = left + LEVELS + 170
            for name, (_, color) in list(SPECIAL_CODES.items())[:3]:
                pen.rectangle((x, 108, x + 14, 122), fill=color)
                pen.text((x + 20, 115), name, fill=SOFT, font=font(14), anchor="lm")
                x += 80

    def _label(self, pen: ImageDraw.ImageDraw, row: SheetRow, y: int) -> None:
        def line(text: str, below: int, size: int, color: tuple[int, int, int], stroke: float = 0) -> None:
            shown = shorten_to_width(text, size, LABEL - 20)
            pen.text((MARGIN, y + below), shown, fill=color, font=font(size), stroke_width=stroke)

        line(row.path, 0, 20, INK, 0.4)
        line(f"{row.kind}   {row.layout}" if row.layout else row.kind, 30, 15, SOFT)
        line(row.shape, 52, 15, INK)
        facts = row.facts
        if facts.min is not None and facts.max is not None:
            line(f"{facts.min:.3g} … {facts.max:.3g}", 74, 15, INK)
        remarks = [f"{facts.constant_channels} of {facts.channels} constant"] if facts.constant_channels else []
        remarks += ["NaN"] * facts.nan + ["infinite"] * facts.inf
        line(", ".join(remarks), 96, 15, WARN)


@dataclass(frozen=True, slots=True, eq=False)
class SheetRow:
    path: str
    kind: str
    shape: str
    facts: Facts
    thumbs: Sequence[tuple[int | None, Image.Image]]
    palette: NDArray[np.uint8] | None
    layout: str = ""
    """Where channels do not lie first."""

    @property
    def channels(self) -> list[int]:
        """Those that are shown, where they were picked."""
        return [channel for channel, _ in self.thumbs if channel is not None]


def _apply_palette(codes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    from PIL import Image

    image = Image.fromarray(codes)
    image.putpalette(palette.tobytes())
    return image.convert("RGB")  # a tenth of the time of indexing the palette with the codes


def _block_name(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]
