"""What a run found at each operation, over all images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from surgery.text import abbreviate_list
from surgery.types import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from surgery.types import Activation, LayoutDecision, Operation

_USUAL_LAYOUTS = ("channels-first", "flat", "vector", "image")
MAX_SHOWN_LAYOUTS = 4


@dataclass(frozen=True, slots=True)
class OperationSummary:
    """What a run found at one operation, over all images."""

    operation: Operation
    facts: Facts
    """The least and greatest value over all images; the greatest number of constant channels in one image."""
    layout: LayoutDecision | None = None
    """How the values of the first image are read as maps."""
    pictures: int = 1
    """The number of files for one picture, if one file would be too large to open."""
    batch: int = 0
    """The number of the first batch in which it ran. Its operation, layout and pictures are those of this batch."""

    def __repr__(self) -> str:
        return f"OperationSummary({self.operation.path!r}, {self.summary()})"

    def summary(self) -> str:
        """Return the range of the values in words, with constant channels, NaN and infinities."""
        facts = self.facts
        parts = [] if facts.min is None else [f"{facts.min:.3g} to {facts.max:.3g}"]
        parts += [f"{facts.constant_channels}/{facts.channels} constant"] if facts.constant_channels else []
        return ", ".join(parts + ["NaN"] * facts.nan + ["infinite"] * facts.inf)


def merge_summaries(into: dict[str, OperationSummary], new: Mapping[str, OperationSummary]) -> None:
    """Add the summaries of other images to `into`, in any order. The keys are paths of operations."""
    for path, summary in new.items():
        if path in into:
            first, other = sorted((into[path], summary), key=attrgetter("batch"))
            into[path] = replace(first, facts=merge_facts(first.facts, other.facts))
        else:
            into[path] = summary


def in_order_of_execution(summaries: Iterable[OperationSummary]) -> tuple[OperationSummary, ...]:
    """Return summaries in the order of the run of the example. Operations that are new in a batch come last."""
    return tuple(sorted(summaries, key=lambda summary: (summary.operation.index, summary.batch)))


def merge_facts(one: Facts, other: Facts) -> Facts:
    """Return the facts of two images together: the extremes of both, and the greater number of constant channels."""
    return Facts(
        min=_choose(min, one.min, other.min),
        max=_choose(max, one.max, other.max),
        channels=max(one.channels, other.channels),
        constant_channels=max(one.constant_channels, other.constant_channels),
        nan=one.nan or other.nan,
        inf=one.inf or other.inf,
    )


def _choose(choose: Callable[[float, float], float], one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


def count_picture_parts(activation: Activation) -> int:
    """Return the number of files for one picture of an activation, which is 1 unless one file would be too large."""
    return max((picture.part[1] for picture in activation.pictures if picture.part is not None), default=1)


def unusual_layout(summary: OperationSummary) -> str:
    """Return the layout of an operation's values if it is requested or unusual for a convolutional network."""
    layout = summary.layout
    if layout is None or (layout.name in _USUAL_LAYOUTS and not layout.is_requested):
        return ""
    return f"{layout.name} (guessed)" if layout.is_guessed else layout.name


def way_notes(summaries: Sequence[OperationSummary], not_reached: Mapping[str, int], images: int) -> list[str]:
    """Return notes on operations that only some of the images have, since they take another way through the model.

    `not_reached` says how many of the `images` did not reach an operation.
    """
    notes = []
    if not_reached:
        verb = "was" if len(not_reached) == 1 else "were"
        most, at_most = max(not_reached.values()), "at most " if len(set(not_reached.values())) > 1 else ""
        notes.append(f"{abbreviate_list(not_reached)} {verb} not reached for {at_most}{most} of {images} images")
    if new := list(dict.fromkeys(summary.operation.path for summary in summaries if summary.operation.is_new)):
        verb, them = ("is", "it") if len(new) == 1 else ("are", "them")
        notes.append(f"{abbreviate_list(new)} {verb} new: the run of the example did not have {them}")
    return notes


def drawing_notes(summaries: Sequence[OperationSummary]) -> list[str]:
    """Return notes on unusual layouts, on requested layouts that don't fit, and on pictures in several files."""
    notes = []
    layouts = Counter(layout for summary in summaries if (layout := unusual_layout(summary)))
    if layouts:
        counts = ", ".join(f"{count} {name}" for name, count in layouts.most_common(MAX_SHOWN_LAYOUTS))
        rest = len(layouts) - MAX_SHOWN_LAYOUTS
        more = f" and {rest} more kinds" if rest > 0 else ""
        notes.append(f"layouts: {counts}{more}; the manifest says why; override with --layout")
    split = sum(summary.pictures > 1 for summary in summaries)
    if split:
        count = "1 operation is" if split == 1 else f"{split} operations are"
        notes.append(f"{count} drawn in parts, since one picture would be too large for viewers (grid:megapixels=64)")
    ignored = [summary.operation.path for summary in summaries if summary.layout and summary.layout.is_fallback]
    if ignored:
        where = f"{ignored[0]} and {len(ignored) - 1} more" if len(ignored) > 1 else ignored[0]
        notes.append(f"the requested layout does not fit {where}")
    return notes
