"""A finding: one number past its threshold, at the operation where it begins, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from surgery.text import abbreviate_list, format_count

if TYPE_CHECKING:
    from surgery.types import Operation

Severity: TypeAlias = Literal["note", "warning", "severe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One number past its threshold, at the operation where it begins."""

    severity: Severity
    measure: str
    operation: Operation
    channels: tuple[int, ...]
    """The channels past the threshold, the worst first; empty if the number is that of all channels."""
    number: float
    threshold: float
    compared_with: str | None = None
    """The path of the operation whose number it is compared with."""
    compared_number: float | None = None
    is_first: bool = True
    """Whether no operation before it has such a finding."""
    follows: str | None = None
    """The path of an operation before it at which all is lost, so that this finding may follow from that one."""

    @property
    def text(self) -> str:
        """One line in plain words: what, where, by which number, and compared with what."""
        path, kind = self.operation.path, self.operation.kind
        number, worst = f"{abs(self.number):.2g}", f" in channel {self.channels[0]}" if self.channels else ""
        beside = ""
        if self.compared_with is not None and self.compared_number is not None:
            beside = f", {abs(self.compared_number):.2g} in {self.compared_with}"
        begins = "begins" if self.is_first else "is added"
        of_size = f"{beside} of the same size" if beside else ""
        which = _describe_channels(self.channels)
        texts = {
            "not-finite": f"values that are not finite begin at {path}: {number} of {which}",
            "dead": f"zero everywhere in {path}: {which}",
            "constant": f"constant in {path}: {which}",
            "saturated": f"{path} is saturated: {number} of its values are at the ends of {kind}",
            "outliers": f"{path} has outliers{worst}: {number} times the 99.9th percentile{of_size}",
            "mode-gap": f"eval and train mode differ at {path}: {number} deviations between their means{beside}",
            "checkerboard": f"checkerboard {begins} at {path}: {number} of the variance{worst}{of_size}",
            "periodic": f"a periodic pattern {begins} at {path}: {number} of the variance{worst}{of_size}",
            "similarity": f"{path} ignores the input: its maps correlate by {number} between images{beside}",
            "noise": f"noise {begins} at {path}: random numbers make {number} of the variance",
        }
        name = self.measure.partition(":")[0]
        return texts.get(name, f"{self.measure} is {number} at {path}{worst}, above {self.threshold:g}{beside}")

    def __repr__(self) -> str:
        return f"Finding({self.text!r})"

    def record(self) -> dict[str, Any]:
        """Return the finding as plain data."""
        return {
            "severity": self.severity,
            "measure": self.measure,
            "path": self.operation.path,
            "channels": list(self.channels),
            "number": self.number,
            "threshold": self.threshold,
            "compared_with": self.compared_with,
            "compared_number": self.compared_number,
            "follows": self.follows,
            "text": self.text,
        }


def _describe_channels(channels: tuple[int, ...]) -> str:
    """Return how many channels there are and which: ``2 channels, 5, 9``; ``the channels`` for all at once."""
    if not channels:
        return "the channels"
    if len(channels) == 1:
        return f"channel {channels[0]}"
    return f"{format_count(len(channels), 'channel')}, {abbreviate_list(sorted(channels), 8)}"
