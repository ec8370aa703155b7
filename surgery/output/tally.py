"""What the finished images of a run add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from surgery.output.manifest_entries import read_summary, summary_entry
from surgery.output.notes import Notes, merge_notes
from surgery.output.summaries import OperationSummary, in_order_of_execution, merge_summaries

if TYPE_CHECKING:
    from surgery.types import Operation


@dataclass(slots=True)
class Tally:
    """What the finished images of a run add up to. That of a batch is in its record, and `merge` adds it."""

    finished: set[int] = field(default_factory=set)
    """The numbers of the images."""
    files: int = 0
    """How many files belong to these images and their batches."""
    summaries: dict[str, OperationSummary] = field(default_factory=dict)
    """By the path of the operation."""
    not_reached: Counter[str] = field(default_factory=Counter)
    """How many images did not reach an operation, by its path."""
    notes: Notes = field(default_factory=dict)
    """What was noted when the images were read."""
    overview: tuple[int, str] | None = None
    """The first file that shows a whole image, such as a sheet, and the number of its batch."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What sinks have decided for all images: `OutputFolder.shared`."""
    check: str | None = None
    """What was compared with the original model."""
    common_files: dict[str, str] = field(default_factory=dict)
    """Files of the whole run that have the same content whoever writes them, with their checksums."""
    gathered: dict[str, list[str]] = field(default_factory=dict)
    """Files of what sinks have gathered, by the name of the file that they are merged into."""
    states: dict[str, int] = field(default_factory=dict)
    """The last state of what sinks have gathered, of each process that has not merged it yet."""
    machine_stopped: bool = False
    """Whether the machine stopped during the run, so that files may be there that the disk has no record of."""

    def merge(self, other: Tally) -> None:
        """Add what other images add up to."""
        self.finished |= other.finished
        self.files += other.files
        merge_summaries(self.summaries, other.summaries)
        self.not_reached.update(other.not_reached)
        merge_notes(self.notes, other.notes)
        self.overview = min(filter(None, (self.overview, other.overview)), default=None)
        self.shared = other.shared or self.shared
        self.check = other.check or self.check
        self.common_files |= other.common_files
        for name, files in other.gathered.items():
            self.gathered[name] = [*dict.fromkeys((*self.gathered.get(name, ()), *files))]
        self.states |= {token: max(number, self.states.get(token, 0)) for token, number in other.states.items()}
        self.machine_stopped |= other.machine_stopped

    def ordered_summaries(self) -> tuple[OperationSummary, ...]:
        """Return the summaries in order of execution."""
        return in_order_of_execution(self.summaries.values())

    def record(self) -> dict[str, Any]:
        """Return the tally for JSON, without the summaries and the check, which a manifest has elsewhere."""
        values = {
            "finished": _as_ranges(self.finished),
            "files": self.files,
            "not_reached": dict(self.not_reached),
            "notes": dict(sorted(self.notes.items())),
            "overview": self.overview,
            "shared": self.shared,
            "common_files": dict(sorted(self.common_files.items())),
            "gathered": self.gathered,
            "states": self.states,
            "machine_stopped": self.machine_stopped,
        }
        return {name: value for name, value in values.items() if value or name == "finished"}

    def whole_record(self) -> dict[str, Any]:
        """Return the tally for JSON."""
        more = {"operations": [summary_entry(summary) for summary in self.ordered_summaries()], "check": self.check}
        return {**self.record(), **{name: value for name, value in more.items() if value}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], operations: Iterable[Operation] = ()) -> Tally:
        """Return the tally of a record. `operations` are those of the model, which know more than a manifest does."""
        known = {operation.path: operation for operation in operations}
        summaries = [read_summary(entry, known) for entry in record.get("operations", ())]
        overview = record.get("overview")
        return cls(
            finished={number for first, last in record["finished"] for number in range(first, last + 1)},
            files=record.get("files", 0),
            summaries={summary.operation.path: summary for summary in summaries},
            not_reached=Counter(record.get("not_reached", {})),
            notes={text: (path, count) for text, (path, count) in record.get("notes", {}).items()},
            overview=None if overview is None else (overview[0], overview[1]),
            shared=record.get("shared", {}),
            check=record.get("check"),
            common_files=dict(record.get("common_files", {})),
            gathered={name: list(files) for name, files in record.get("gathered", {}).items()},
            states=dict(record.get("states", {})),
            machine_stopped=record.get("machine_stopped", False),
        )

    @classmethod
    def from_manifest(cls, head: Mapping[str, Any], operations: Iterable[Operation] = ()) -> Tally:
        """Return the tally in a manifest. Raises KeyError, TypeError or ValueError if it has none."""
        done = head["progress"]
        summaries = head["operations"] if done["finished"] else []
        return cls.from_record({**done, "operations": summaries, "check": head.get("check")}, operations)


def _as_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return numbers as the first and the last of each range without a gap."""
    ranges = []
    for _, group in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        ranges.append((members[0], members[-1]))
    return ranges
