"""What a run tells of itself, while it goes on and when it is done."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from warnings import warn

from surgery.text import MAX_TABLE_ROWS, escape_html, html_table, image_tag
from surgery.types import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from surgery.graph import Hazard
    from surgery.types import Activation, LayoutDecision, Operation


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a run is about to do."""

    folder: Path
    images: tuple[Path, ...]
    """In order; some may turn out to be unreadable."""
    operations: tuple[Operation, ...]
    """Those that were chosen, in order of execution."""
    about: Mapping[str, str]
    """The run in words: model, weights, mode, seed, the recipe of its pictures."""

    def __repr__(self) -> str:
        return f"RunStart({str(self.folder)!r}: {len(self.images)} images, {len(self.operations)} operations)"


@dataclass(frozen=True, slots=True)
class Watcher:
    """Functions that are told of a run while it goes on. One that raises is left out of the rest of it, and reported.

    `activation` is called inside the model's forward, as a sink is: what is kept of its values must be copied.
    """

    name: str
    """Who watches, for the report."""
    started: Callable[[RunStart], object] | None = None
    activation: Callable[[Activation], object] | None = None
    finished: Callable[[Report], object] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, in images."""

    done: int
    failed: int
    total: int
    image: str
    """Name of the image that was finished last."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read, or that the model could not take."""

    path: str
    reason: str
    number: int = 0
    """Of the image, among those of the run."""


@dataclass(frozen=True, slots=True)
class OperationSummary:
    """What was found at one operation, over all images of a run."""

    operation: Operation
    facts: Facts
    """Least and greatest over all images; the greatest number of constant channels in one."""
    layout: LayoutDecision | None = None
    """How the values of the first image are read as maps."""
    pictures: int = 1
    """Files that the pictures of one image are in, because one would be too large to be opened."""

    def __repr__(self) -> str:
        return f"OperationSummary({self.operation.path!r}, {self.summary()})"

    def summary(self) -> str:
        """The range of the values, and what is remarkable of them, as text."""
        facts = self.facts
        known = [] if facts.min is None else [f"{facts.min:.3g} to {facts.max:.3g}"]
        known += [f"{facts.constant_channels}/{facts.channels} constant"] if facts.constant_channels else []
        return ", ".join(known + ["NaN"] * facts.nan + ["infinite"] * facts.inf)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run did."""

    folder: Path
    images: int
    files: int
    failed: tuple[Failure, ...]
    summaries: tuple[OperationSummary, ...]
    seconds: float
    """Wall time."""
    hazards: tuple[Hazard, ...] = ()
    """What was noticed while the model was traced."""
    interrupted: bool = False
    """Whether Ctrl-C ended it: what was finished stays."""
    notes: tuple[str, ...] = ()
    """A line for each thing to know of the pictures: that weights are random, that an AB pair was not cut."""
    overview: Path | None = None
    """The first file that is of a whole image: its sheet, say."""
    warnings: tuple[str, ...] = ()
    """A line for each watcher that raised."""

    @property
    def findings(self) -> tuple[OperationSummary, ...]:
        """The old name of `summaries`, for one more release."""
        warn("Report.findings is now Report.summaries", DeprecationWarning, stacklevel=2)
        return self.summaries

    @property
    def troubles(self) -> tuple[str, ...]:
        """The old name of `warnings`, for one more release."""
        warn("Report.troubles is now Report.warnings", DeprecationWarning, stacklevel=2)
        return self.warnings

    def __repr__(self) -> str:
        return f"Report({self._title()})"

    def _title(self) -> str:
        counted = [f"{self.images} images", f"{self.files} files", f"{len(self.summaries)} operations"]
        counted += [f"{len(self.failed)} failed"] if self.failed else []
        counted += ["interrupted"] if self.interrupted else []
        return f"{str(self.folder)!r}: {', '.join(counted)}, {self.seconds:.1f} s"

    def _repr_html_(self) -> str:
        """How a notebook shows it: a table, and the overview sheet of the first image where there is one."""
        rows = []
        for found in self.summaries:
            operation = found.operation
            rows.append((operation.index, operation.path, operation.kind, operation.shapes(), found.summary()))
        header = ("", "operation", "kind", "shape", "values")
        problems = [f"{failure.path}: {failure.reason}" for failure in self.failed]
        lines = [*problems, *map(str, self.hazards), *self.notes, *self.warnings]
        said = "".join(f"<div>{escape_html(line)}</div>" for line in lines[:MAX_TABLE_ROWS])
        return html_table(self._title(), header, rows) + said + self._sheet()

    def _sheet(self) -> str:
        from PIL import Image

        for file in sorted(self.folder.glob("*/sheet*.png"))[:1]:
            with suppress(OSError, ValueError, SyntaxError, Image.DecompressionBombError), Image.open(file) as sheet:
                top = sheet.convert("RGB").crop((0, 0, sheet.width, min(sheet.height, 2 * sheet.width)))
                return image_tag(top, 1024)
        return ""


def merge_summaries(into: dict[str, OperationSummary], found: Mapping[str, OperationSummary]) -> None:
    """Add summaries to those that are known, in order of execution."""
    for path, summary in found.items():
        known = into.get(path)
        into[path] = replace(known, facts=merge_facts(known.facts, summary.facts)) if known else summary


def merge_facts(one: Facts, other: Facts) -> Facts:
    """The facts of both together: extremes of both, the greater number of constant channels."""
    return Facts(
        min=_either(min, one.min, other.min),
        max=_either(max, one.max, other.max),
        channels=max(one.channels, other.channels),
        constant_channels=max(one.constant_channels, other.constant_channels),
        nan=one.nan or other.nan,
        inf=one.inf or other.inf,
    )


def _either(pick: Callable[[float, float], float], one: float | None, other: float | None) -> float | None:
    return pick(one, other) if one is not None and other is not None else one if other is None else other


_USUAL = ("channels-first", "flat", "vector", "image")


def layout_remark(summary: OperationSummary) -> str:
    """How the values of an operation lie, where that is not what a convolution gives; else nothing."""
    layout = summary.layout
    if layout is None or (layout.name in _USUAL and not layout.is_requested):
        return ""
    return f"{layout.name} (guessed)" if layout.is_guessed else layout.name


def layout_notes(summaries: Sequence[OperationSummary]) -> list[str]:
    """How many operations have values that lie otherwise, and where a layout that was asked for does not fit."""
    notes = []
    found = Counter(layout for summary in summaries if (layout := layout_remark(summary)))
    if found:
        counts = ", ".join(f"{count} {name}" for name, count in found.most_common(4))
        more = f" and {len(found) - 4} more kinds" if len(found) > 4 else ""
        notes.append(f"layouts: {counts}{more}; the manifest says why, --layout decides otherwise")
    refused = [summary.operation.path for summary in summaries if summary.layout and summary.layout.is_fallback]
    split = [summary for summary in summaries if summary.pictures > 1]
    if split:
        count = "1 operation is" if len(split) == 1 else f"{len(split)} operations are"
        notes.append(f"{count} drawn in parts, since one picture would be too large for viewers (grid:megapixels=64)")
    if refused:
        where = f"{refused[0]} and {len(refused) - 1} more" if len(refused) > 1 else refused[0]
        notes.append(f"the layout that was asked for does not fit {where}")
    return notes


def count_picture_parts(activation: Activation) -> int:
    """How many pictures there are of what would be one, were it not too large to be opened; 1 if it is one."""
    return max((picture.part[1] for picture in activation.pictures if picture.part is not None), default=1)
