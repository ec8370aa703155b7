"""The sink that draws the overview: one sheet for each image, one row for each operation."""

from __future__ import annotations

import bisect
import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image, ImageDraw

    from surgery.folder import OutputFolder
    from surgery.types import Activation, Facts, Levels, Write

PAPER, INK, SOFT, RULE, WARN = (250, 250, 248), (28, 30, 36), (120, 124, 134), (222, 222, 218), (190, 60, 20)
MARGIN, GUTTER, LABEL = 40, 10, 300


@dataclass(frozen=True, slots=True)
class Sheet:
    """`<image>/sheet.png`: every operation in order, each with its name, shape, range and most telling channels.

    The most telling channels are chosen one by one, by contrast (the deviation of the map as it is drawn, half of it
    counted after smoothing, so that structure beats noise) times how little a channel resembles those already chosen
    (one minus the greatest magnitude of correlation). They are shown in order of their numbers.
    """

    channels: int = 8
    """Channels in a row, at most."""
    size: int = 128
    """Side of a thumbnail, in pixels."""
    rows: int = 100
    """Rows on a sheet, at most; what is more goes on `sheet-2.png` and so on."""

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise RenderError(f"channels is at least 1, not {self.channels}")
        if self.rows < 1:
            raise RenderError(f"rows is at least 1, not {self.rows}")
        if self.size < 32:
            raise RenderError(f"size is at least 32, not {self.size}")

    deferred: ClassVar[bool] = True
    alone: ClassVar[bool] = True

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        import numpy as np

        from surgery.png import encode
        from surgery.types import Picture

        rows: dict[str | None, list[_Row]] = {}

        def write(activation: Activation) -> None:
            rows.setdefault(activation.image, []).append(self._row(activation))

        def finished(image: str | None) -> None:
            drawn = rows.pop(image, [])
            if image is None:
                return
            about = dict(folder.about)
            said = {name: value.encode() for name, value in about.items()}
            for page, start in enumerate(range(0, len(drawn), self.rows), 1):
                name = f"{image}/sheet.png" if page == 1 else f"{image}/sheet-{page}.png"
                with folder.file(name) as path:
                    part = drawn[start : start + self.rows]
                    several = f"rows {start + 1} to {start + len(part)} of {len(drawn)}"
                    count = several if len(drawn) > self.rows else f"{len(drawn)} rows"
                    random = ", random weights," if about.get("weights", "").startswith("random") else ""
                    sheet = self._draw(part, f"{about.get('model', 'model')}{random}  on  {image}", count, about)
                    # Which numpy would ask for twice.
                    pixels = np.frombuffer(sheet.tobytes(), np.uint8).reshape(sheet.height, sheet.width, 3)
                    path.write_bytes(encode(Picture(pixels, None, np.zeros(1), np.ones(1)), said, level=2))

        folder.when_finished(finished)
        folder.when_dropped(lambda image: rows.pop(image, None))
        yield write

    def _row(self, activation: Activation) -> _Row:
        pictures = activation.pictures
        palette = pictures[0].palette if pictures else None
        thumbs: list[tuple[int | None, Image.Image]]
        if palette is None:  # color by nature
            thumbs = [(None, self._fit(picture.image().convert("RGB"), 2, 2)) for picture in pictures[:1]]
        elif (levels := activation.levels).indices.shape[0] == 1:
            thumbs = [(None, self._fit(pictures[0].image().convert("RGB"), min(4, self.channels)))]
        else:
            chosen = telling(levels, self.channels)
            thumbs = [(channel, self._fit(_colored(levels.indices[channel], palette))) for channel in chosen]
        shape = " x ".join(map(str, activation.values.shape)) or "one number"
        return _Row(activation.path, activation.operation.kind, shape, activation.facts, thumbs, palette)

    def _fit(self, image: Image.Image, across: int = 1, down: int = 1) -> Image.Image:
        """Enlarged by a whole factor without smoothing, or reduced by averaging areas, to so many thumbnails."""
        from PIL import Image

        width, height = image.size
        room = self.size * across + GUTTER * (across - 1)
        factor = min(room / width, self.size * down / height)
        if factor >= 1:
            return image.resize((width * int(factor), height * int(factor)), Image.Resampling.NEAREST)
        return image.resize((max(1, round(width * factor)), max(1, round(height * factor))), Image.Resampling.BOX)

    def _draw(self, rows: list[_Row], title: str, count: str, about: dict[str, str]) -> Image.Image:
        from PIL import Image, ImageDraw

        width = 2 * MARGIN + LABEL + self.channels * (self.size + GUTTER)
        head = 150
        groups = sum(_group(a.path) != _group(b.path) for a, b in itertools.pairwise(rows))
        steps = [max([self.size, *(thumb.height for _, thumb in row.thumbs)]) + 34 for row in rows]
        sheet = Image.new("RGB", (width, head + sum(steps) + groups * 14 + MARGIN), PAPER)
        pen = ImageDraw.Draw(sheet)
        self._head(sheet, pen, rows, title, count, about)
        y = head
        for row, before, step in zip(rows, [None, *rows], steps, strict=False):
            if before is None or _group(before.path) != _group(row.path):
                y += 14 if before is not None else 0
                pen.line((MARGIN, y - 8, width - MARGIN, y - 8), fill=RULE, width=2)
            self._label(pen, row, y)
            x = MARGIN + LABEL
            for channel, thumb in row.thumbs:
                sheet.paste(thumb, (x, y))
                if channel is not None:
                    pen.text((x, y + thumb.height + 3), str(channel), fill=SOFT, font=_font(13))
                x += max(self.size, thumb.width) + GUTTER
            y += step
        return sheet

    def _head(
        self,
        sheet: Image.Image,
        pen: ImageDraw.ImageDraw,
        rows: list[_Row],
        title: str,
        count: str,
        about: dict[str, str],
    ) -> None:
        from PIL import Image

        pen.text((MARGIN, 30), title, fill=INK, font=_font(30))
        said = [f"{count} in order of execution", f"mode {about['mode']}" if "mode" in about else ""]
        said += ["channels chosen for contrast and variety", about.get("normalizer", "")]
        pen.text((MARGIN, 74), "   ·   ".join(filter(None, said)), fill=SOFT, font=_font(16))
        palette = next((row.palette for row in rows if row.palette is not None), None)
        if palette is None:
            return
        from surgery.types import LEVELS

        bar = Image.fromarray(palette[None, :LEVELS].repeat(14, axis=0)).resize((LEVELS, 14))
        left = MARGIN + LABEL
        sheet.paste(bar, (left, 108))
        pen.text((left - 8, 115), "low", fill=SOFT, font=_font(14), anchor="rm")
        pen.text((left + LEVELS + 8, 115), "high of its limits", fill=SOFT, font=_font(14), anchor="lm")
        if any(row.facts.nan or row.facts.inf for row in rows):
            from surgery.palettes import NOT_VALUES

            x = left + LEVELS + 170
            for name, (_, color) in list(NOT_VALUES.items())[:3]:
                pen.rectangle((x, 108, x + 14, 122), fill=color)
                pen.text((x + 20, 115), name, fill=SOFT, font=_font(14), anchor="lm")
                x += 80

    def _label(self, pen: ImageDraw.ImageDraw, row: _Row, y: int) -> None:
        room = LABEL - 20
        pen.text((MARGIN, y), _shortened(pen, row.path, 20, room), fill=INK, font=_font(20), stroke_width=0.4)
        pen.text((MARGIN, y + 30), row.kind, fill=SOFT, font=_font(15))
        pen.text((MARGIN, y + 52), row.shape, fill=INK, font=_font(15))
        facts = row.facts
        if facts.min is not None and facts.max is not None:
            pen.text((MARGIN, y + 74), f"{facts.min:.3g} … {facts.max:.3g}", fill=INK, font=_font(15))
        remarks = [f"{facts.constant_channels} of {facts.channels} constant"] if facts.constant_channels else []
        remarks += ["NaN"] * facts.nan + ["infinite"] * facts.inf
        pen.text((MARGIN, y + 96), ", ".join(remarks), fill=WARN, font=_font(15))


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    path: str
    kind: str
    shape: str
    facts: Facts
    thumbs: Sequence[tuple[int | None, Image.Image]]
    palette: NDArray[np.uint8] | None


def telling(levels: Levels, count: int) -> list[int]:
    """The channels that tell most, at most `count`, in order of their numbers; constant ones only to fill up."""
    import numpy as np

    maps = _reduced(levels.indices)
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    smooth = maps.copy()
    smooth[:, 1:] += maps[:, :-1]
    smooth[:, :, 1:] += smooth[:, :, :-1].copy()
    contrast = maps.std(axis=(1, 2)) + smooth.std(axis=(1, 2)) / 4
    flat = maps.reshape(len(maps), -1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    alike = np.zeros(len(maps))
    chosen: list[int] = []
    while len(chosen) < min(count, len(maps)):
        score = contrast * (1 - alike)
        score[chosen] = -1
        best = int(score.argmax())
        chosen.append(best)
        alike = np.maximum(alike, np.abs(unit @ unit[best]))
    return sorted(chosen)


def _reduced(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(C, h, w)`` with h and w of 64 at most, by averaging; what is no value counts as the middle."""
    import numpy as np

    from surgery.types import LEVELS

    values = np.where(codes < LEVELS, codes, LEVELS // 2) if (codes >= LEVELS).any() else codes
    down, across = (max(1, -(-side // 64)) for side in codes.shape[1:])
    values = values[:, : codes.shape[1] // down * down, : codes.shape[2] // across * across]
    # Sums of lines and then of columns: exact, and a third of the time of a pooling of floats.
    lines = values[:, ::down].astype(np.uint32)
    for start in range(1, down):
        lines += values[:, start::down]
    sums = lines[:, :, ::across].astype(np.float32)
    for start in range(1, across):
        sums += lines[:, :, start::across]
    return sums / np.float32(down * across)


def _colored(codes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    from PIL import Image

    image = Image.fromarray(codes)
    image.putpalette(palette.tobytes())
    return image.convert("RGB")  # a tenth of the time of indexing the palette with the codes


def _group(path: str) -> str:
    return path.partition(".")[0].partition("[")[0]


def _shortened(pen: ImageDraw.ImageDraw, text: str, size: int, room: int) -> str:
    """The text with its middle left out, if it is wider than there is room."""

    def cut(keep: int) -> str:
        return f"{text[: keep // 2]}…{text[len(text) - (keep - keep // 2) :]}"

    def fits(shown: str) -> bool:
        return bool(pen.textlength(shown, font=_font(size)) <= room)

    if len(text) < room and fits(text):  # a letter is wider than a pixel
        return text
    kept = bisect.bisect_left(range(min(len(text), room)), x=True, key=lambda keep: not fits(cut(keep)))
    return cut(max(0, kept - 1))


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
