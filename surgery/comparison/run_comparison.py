"""The result of a comparison: a table with a row for each operation and run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.text import format_count, html_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from surgery.comparison.pair_measures import PairMeasures
    from surgery.output import Failure
    from surgery.types import Operation


@dataclass(frozen=True, slots=True)
class ComparedOperation:
    """An operation of the first run beside its counterpart in another one."""

    operation: Operation
    run: str
    """The name of the other run."""
    counterpart: str | None
    """The path of the operation in the other run; None if it has none."""
    mean: PairMeasures | None = None
    """The measures, each as the mean over images; None if the values can't be compared."""
    worst: PairMeasures | None = None
    """The worst of each measure over images."""
    own: float | None = None
    """The relative difference that the operation adds itself: what it gives in the other run for the inputs that it has
    in the first one, against what it gives in the first one; root mean square over images. None if it is not known."""
    inherited: float | None = None
    """The relative difference that follows from its inputs: what it gives in the other run, against what it gives there
    for the inputs of the first one."""
    cka: float | None = None
    """Linear CKA over images; None for too few of them."""
    reason: str = ""
    """Why the values can't be compared element by element."""

    @property
    def is_equal(self) -> bool:
        """Whether all values are equal, bit for bit."""
        return self.worst is not None and self.worst.is_equal

    def record(self) -> dict[str, Any]:
        """Return the row as plain values."""
        measures = asdict(self.mean) if self.mean is not None else {}
        worst = {f"worst_{name}": value for name, value in asdict(self.worst).items()} if self.worst is not None else {}
        return {
            "index": self.operation.index,
            "operation": self.operation.path,
            "kind": self.operation.kind,
            "run": self.run,
            "counterpart": self.counterpart,
            **measures,
            **worst,
            "own": self.own,
            "inherited": self.inherited,
            "cka": self.cka,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class RunComparison:
    """What `surgery.compare` found."""

    runs: tuple[str, ...]
    """The names of the runs. All are compared with the first one."""
    rows: tuple[ComparedOperation, ...]
    """In order of execution; for each operation, one for each of the other runs."""
    images: int
    threshold: float
    """The relative difference above which an operation counts as changed."""
    unmatched: Mapping[str, str] = field(default_factory=dict)
    """For each other run, what has no counterpart, as text; not for those that match wholly."""
    failed: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    folder: Path | None = None
    """Where its files are; None if it wrote none."""
    sheet: Path | None = None
    """The first sheet."""
    interrupted: bool = False

    def first_different(self, run: str | None = None) -> ComparedOperation | None:
        """Return the first operation that is not bit-equal in a run, by default the second one."""
        return next((row for row in self._rows(run) if row.worst is not None and not row.is_equal), None)

    def first_changed(self, run: str | None = None) -> ComparedOperation | None:
        """Return the first operation whose relative difference is above the threshold."""
        return next((row for row in self._rows(run) if _relative(row) > self.threshold), None)

    def sources(self, run: str | None = None) -> list[ComparedOperation]:
        """Return the operations that add a relative difference above the threshold themselves, the greatest first."""
        rows = [row for row in self._rows(run) if row.own is not None and row.own > self.threshold]
        return sorted(rows, key=lambda row: -(row.own or 0))

    def finding(self, run: str | None = None) -> str:
        """Return in one sentence where a run begins to differ."""
        name, rows = run or self.runs[1], self._rows(run)
        first, changed = self.first_different(run), self.first_changed(run)
        compared = sum(row.worst is not None for row in rows)
        if not compared:
            return f"{name}: no operation has a value that can be compared with one of {self.runs[0]}"
        if first is None:
            rest = f"; {len(rows) - compared} can't be compared" if compared < len(rows) else ""
            return f"{name}: bit-equal to {self.runs[0]} at {format_count(compared, 'operation')}{rest}"
        amount = format_relative(_relative(first))
        text = f"{name}: differs from {self.runs[0]} from {first.operation.path} on, by {amount}"
        if first.inherited:
            text += ", and so do its inputs"
        if changed is not None and changed is not first:
            amount = format_relative(_relative(changed))
            text += f"; above {format_relative(self.threshold)} from {changed.operation.path} on, by {amount}"
        return text

    def records(self) -> list[dict[str, Any]]:
        """Return all rows as plain values, for pandas."""
        return [row.record() for row in self.rows]

    def content(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "runs": self.runs,
            "images": self.images,
            "threshold": self.threshold,
            "findings": {run: self.finding(run) for run in self.runs[1:]},
            "first_different": {run: _path(self.first_different(run)) for run in self.runs[1:]},
            "first_changed": {run: _path(self.first_changed(run)) for run in self.runs[1:]},
            "unmatched": self.unmatched,
            "notes": self.notes,
            "failed": [asdict(failure) for failure in self.failed],
            "operations": self.records(),
        }

    def _rows(self, run: str | None) -> list[ComparedOperation]:
        name = run or self.runs[1]
        return [row for row in self.rows if row.run == name]

    def __repr__(self) -> str:
        lines = [f"RunComparison of {', '.join(self.runs)} on {format_count(self.images, 'image')}:"]
        lines += [f"  {self.finding(run)}" for run in self.runs[1:]]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return a table for a notebook."""
        rows = [(row.operation.path, row.run, row.counterpart or "", *_cells(row), row.reason) for row in self.rows]
        header = ("operation", "run", "counterpart", "relative", "SNR", "cosine", "equal", "own", "")
        return html_table("; ".join(self.finding(run) for run in self.runs[1:]), header, rows)


def _cells(row: ComparedOperation) -> tuple[str, str, str, str, str]:
    if row.mean is None:
        return "", "", "", "", ""
    own = "" if row.own is None else format_relative(row.own)
    mean = row.mean
    return format_relative(mean.relative), format_snr(mean.snr), f"{mean.cosine:.4f}", f"{mean.equal:.1%}", own


def _path(row: ComparedOperation | None) -> str | None:
    return None if row is None else row.operation.path


def _relative(row: ComparedOperation) -> float:
    return 0.0 if row.mean is None else row.mean.relative


def format_relative(value: float) -> str:
    """Return a relative difference as text: ``3.2e-07``, ``0.0451``, ``12%``."""
    if not math.isfinite(value):
        return "inf"
    return f"{value:.0%}" if value >= 0.1 else f"{value:.2g}"


def format_snr(value: float) -> str:
    """Return a signal-to-noise ratio as text: ``47.4 dB``, ``0.0 dB``, ``inf dB``."""
    return f"{round(value, 1) + 0.0:.1f} dB"  # which has no negative zero
