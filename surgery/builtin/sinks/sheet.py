"""The sink that draws the overview: a sheet for each image, with a row for each operation."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from surgery.builtin.sinks import channel_picks
from surgery.builtin.sinks.sheet_page import SheetPage, SheetRow
from surgery.builtin.sinks.thumbnails import Thumbnails, fit_thumbnail
from surgery.errors import RenderError
from surgery.output import as_json
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surgery.output import OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation

_USUAL_LAYOUTS = ("channels-first", "vector", "flat", "image")


@dataclass(frozen=True, slots=True)
class Sheet:
    """`<image>/sheet.png`: every operation in order, each with its name, shape, range and most informative channels.

    The channels are chosen one by one by contrast (the standard deviation of the drawn map, half of it counted after
    smoothing, so that structure counts more than noise) times the difference to the channels chosen before (one minus
    the greatest absolute correlation). They are shown in the order of their numbers.

    All images of a run show the channels of its first image. They are stored in the PNG text `picks` of the sheet, so
    that another run can show the same: ``--sink sheet:pick=epoch-1`` takes the folder of a run, or one of its sheets.
    """

    channels: int = 8
    """The most channels in a row."""
    size: int = 128
    """Side of a thumbnail, in pixels."""
    rows: int = 32
    """The most rows on a page; the next page is `sheet-2.png`."""
    pick: str = "telling"
    """The channels: telling (the most informative of the first image), each (of each image its own), first, spread,
    numbers such as 0/3/7, or those of an earlier run: its folder or a sheet."""

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
        """Whether what the first image of a run shows decides what the others show."""
        return not channel_picks.ignores_images(self.pick)

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        rows: dict[str, list[SheetRow]] = {}
        shared = folder.shared.setdefault("sheet", {"picks": {}, "done": False})
        picks = channel_picks.ChannelPicks(self.pick, self.channels, shared["picks"])

        def write(activation: Activation) -> None:
            if activation.image is not None:
                rows.setdefault(activation.image, []).append(self._make_row(activation, picks))

        def finish(image: str | None) -> None:
            if image is not None:
                shared["done"] = True
                self._write_pages(folder, image, rows.pop(image, []), picks)

        def drop(image: str | None) -> None:
            if image is not None:
                rows.pop(image, None)
            if not shared["done"]:
                shared["picks"].clear()

        folder.when_finished(finish)
        folder.when_dropped(drop)
        yield write

    def _make_row(self, activation: Activation, picks: channel_picks.ChannelPicks) -> SheetRow:
        from surgery.drawing import read_channel_codes

        codes = read_channel_codes(activation)
        channels: list[int] = []
        thumbnails, palette = None, codes.palette
        if palette is not None and codes.count > 1:
            channels = picks.channels_of(activation.path, codes)
            thumbnails = Thumbnails.of_codes(codes.read(channels), self.size)
        elif pictures := activation.pictures:
            palette = pictures[0].palette
            if palette is None:  # the pictures have colors of their own
                image = pictures[0].image().convert("RGB")
                thumbnails = Thumbnails.of_images([fit_thumbnail(image, self.size, 2, 2)])
            else:
                thumbnails = Thumbnails.of_codes(pictures[0].pixels[None], self.size, min(4, self.channels))
        layout = activation.layout.name
        return SheetRow(
            path=activation.path,
            kind=activation.operation.kind,
            shape=" x ".join(map(str, activation.values.shape)) or "one number",
            facts=activation.facts,
            thumbnails=thumbnails,
            channels=channels,
            palette=palette,
            layout="" if layout in _USUAL_LAYOUTS else layout,
            measures=", ".join(_describe_measures(activation)),
        )

    def _write_pages(
        self, folder: OutputFolder, image: str, rows: Sequence[SheetRow], picks: channel_picks.ChannelPicks
    ) -> None:
        about = dict(folder.about)
        texts = {name: value.encode() for name, value in about.items()}
        texts[channel_picks.TEXT_CHUNK] = as_json({row.path: row.channels for row in rows if row.channels})
        random = ", random weights" if about.get("weights", "").startswith("random") else ""
        mode = f"mode {about['mode']}" if "mode" in about else ""
        pages = max(1, -(-len(rows) // self.rows))
        rows_per_page = max(1, -(-len(rows) // pages))  # about equal, so that the last page is not a short one
        for number, start in enumerate(range(0, len(rows), rows_per_page), 1):
            part = rows[start : start + rows_per_page]
            section = f"rows {start + 1} to {start + len(part)} of {len(rows)}"
            count = section if len(rows) > self.rows else format_count(len(rows), "row")
            details = [f"{count} in order of execution", mode, picks.describe(), about.get("normalizer", "")]
            page = SheetPage(
                rows=part,
                title=[f"{about.get('model', 'model')}{random}", image],
                details=[*filter(None, details)],
                columns=self.channels,
                size=self.size,
            ).draw()
            name = f"{image}/sheet.png" if number == 1 else f"{image}/sheet-{number}.png"
            with folder.file(name) as path:
                folder.note_digest(path, page.save(path, texts))


def _describe_measures(activation: Activation) -> Iterator[str]:
    """Yield what each measure says: its one number, or the largest of all channels and where it is."""
    import numpy as np

    for name, numbers in activation.measures.items():
        if not np.isnan(numbers).all():
            channel = int(np.nanargmax(numbers))
            where = f" in {channel}" if len(numbers) > 1 else ""
            yield f"{name} {numbers[channel]:.2g}{where}"
