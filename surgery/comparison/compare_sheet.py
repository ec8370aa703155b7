"""The sheet of a comparison: the most changed channels in all runs, and where they differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.builtin import apply_palette
from surgery.comparison.compare_pictures import DIFFERENCE_COLORS, ChannelPictures
from surgery.comparison.run_comparison import format_relative
from surgery.studies import StudyCell, StudyPage, color_bar, draw_output, find_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from torch import Tensor

    from surgery.comparison.kept_maps import KeptChannel, KeptMaps
    from surgery.types import Picture

MAX_RUNS = 4
"""The most runs whose maps and differences fit side by side."""


@dataclass(frozen=True, slots=True, eq=False)
class CompareSheet:
    """What a page shows of one image."""

    title: list[str]
    details: list[str]
    names: Sequence[str]
    """Those of the runs."""
    kept: KeptMaps
    outputs: Sequence[Tensor | None]
    """For each run: its output ``(C, H, W)`` on the CPU, or None."""
    value_range: tuple[float, float] | None
    """Black and white of the outputs; None if they are no images."""

    def draw(self) -> Image.Image:
        """Return the page as an RGB image."""
        others = [f"{name} − {self.names[0]}" for name in self.names[1:]]
        legend = [
            f"From left to right: {', '.join([*self.names, *others])}.",
            "The runs of a channel share the limits of their colors.",
            "Number and bar: the norm of the difference over that of all channels.",
        ]
        cells = [_make_cell(channel) for kept in self.kept.operations for channel in kept.channels]
        if (output := self._output_cell()) is not None:
            cells.append(output)
        return StudyPage(
            title=self.title,
            details=self.details,
            heading=self._draw_outputs(),
            legend=legend,
            scale=(color_bar(DIFFERENCE_COLORS), "less", "more than in the first"),
            cells=cells,
        ).draw()

    def _draw_outputs(self) -> list[tuple[str, Image.Image]]:
        """Return the outputs with one scale, and their captions."""
        first = self.outputs[0]
        limits = None if first is None or self.value_range is not None else find_limits(first.float().mean(0))
        return [
            (f"output of {name}", draw_output(each, self.value_range, limits))
            for name, each in zip(self.names, self.outputs, strict=True)
            if each is not None
        ]

    def _output_cell(self) -> StudyCell | None:
        """Return a cell with the mean of the channels of the output; None if it is not the same kind in all runs."""
        known = [each for each in self.outputs if each is not None]
        first = self.outputs[0]
        if first is None or len(known) < len(self.outputs) or len({each.shape for each in known}) > 1:
            return None
        distance = max(float((each - first).nan_to_num(0, 0, 0).norm()) for each in known[1:])
        norm = float(first.nan_to_num(0, 0, 0).norm())
        relative = distance / norm if norm else (math.inf if distance else 0.0)
        return _cell("output, mean of its channels", relative, ChannelPictures([each.mean(0) for each in known]))


def bar_length(relative: float) -> float | None:
    """Return the length of a bar from 0 to 1, for a relative difference; None for one that is not finite."""
    return min(1.0, relative) if math.isfinite(relative) else None


def colored(picture: Picture) -> Image.Image:
    """Return an indexed picture in its colors."""
    assert picture.palette is not None  # noqa: S101 - maps are indexed
    return apply_palette(picture.pixels, picture.palette)


def _make_cell(kept: KeptChannel) -> StudyCell:
    title = f"{kept.operation.path}  channel {kept.channel}"
    return _cell(title, kept.relative, ChannelPictures(kept.maps))


def _cell(title: str, relative: float, pictures: ChannelPictures) -> StudyCell:
    (low, high), (_, most) = pictures.limits, pictures.difference_limits
    shown = [each for each in [*pictures.draw(), *pictures.draw_differences()] if each is not None]
    details = f"from {low:.3g} to {high:.3g}   difference at most {most:.3g}"
    return StudyCell(title, format_relative(relative), bar_length(relative), details, [colored(each) for each in shown])
