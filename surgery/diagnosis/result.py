"""What a diagnosis found: a row for each operation and measure, and findings in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.text import MAX_TABLE_ROWS, Html, escape_html, format_count, html_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from surgery.diagnosis.channel_numbers import Numbers
    from surgery.diagnosis.finding import Finding
    from surgery.output import Failure
    from surgery.types import Operation


@dataclass(frozen=True, slots=True, eq=False)
class DiagnosisRow:
    """What one measure says of one operation, over all images."""

    operation: Operation
    measure: str
    number: float
    """That of the whole operation: the largest of its channels, or what `reduction` says."""
    reduction: str
    """How the numbers of channels became one: ``largest``, ``mean``, ``rms``, ``always`` or ``whole``."""
    numbers: Numbers = field(repr=False)
    """``(C,)``: the mean over images of each channel, NaN for none; ``(1,)`` for one number of all channels."""
    channel: int | None
    """The channel with the largest absolute number; None if there is one number of all."""

    def record(self) -> dict[str, Any]:
        """Return the row as plain data."""
        known = self.numbers[self.numbers == self.numbers]
        operation = self.operation
        return {
            "path": operation.path,
            "kind": operation.kind,
            "index": operation.index,
            "measure": self.measure,
            "number": self.number,
            "reduction": self.reduction,
            "channel": self.channel,
            "largest": float(known.max()) if known.size else None,
            "mean": float(known.mean()) if known.size else None,
            "channels": int(self.numbers.size),
        }


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Diagnosis(Sequence[DiagnosisRow]):
    """What a diagnosis found. It is the sequence of its rows, in order of execution.

    With `pandas.DataFrame(diagnosis.records())` it is a table.
    """

    model: str
    rows: tuple[DiagnosisRow, ...]
    findings: tuple[Finding, ...]
    """In order of execution; none for a model in which no number is past its threshold."""
    readings: Mapping[str, str]
    """How to read the numbers of each measure, with their unit."""
    thresholds: Mapping[str, float]
    images: tuple[str, ...]
    failed: tuple[Failure, ...] = ()
    """The images that could not be read, or that the model could not take."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    folder: Path | None = None
    """Where its files are; None if it wrote none."""
    sheet: Path | None = None
    """The sheet of the worst channels."""
    interrupted: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[DiagnosisRow]:
        return iter(self.rows)

    def row(self, path: str, measure: str) -> DiagnosisRow | None:
        """Return the row of an operation and a measure; None if the measure says nothing of it."""
        return next((row for row in self.rows if row.operation.path == path and row.measure == measure), None)

    def records(self) -> list[dict[str, Any]]:
        """Return a dict for each row: path, kind, index, measure, number, channel, largest and mean of the channels."""
        return [row.record() for row in self.rows]

    def content(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of it as plain data, with the settings that it was made with and the numbers of all channels."""
        about = {"model": self.model, "settings": dict(settings), "images": self.images, "notes": self.notes}
        told = {"readings": dict(self.readings), "thresholds": dict(self.thresholds)}
        rows = [{**row.record(), "numbers": row.numbers.tolist()} for row in self.rows]
        return {**about, **told, "findings": [finding.record() for finding in self.findings], "rows": rows}

    @property
    def title(self) -> str:
        """One line: the model, how many operations on how many images, and how many findings."""
        roots = sum(finding.follows is None for finding in self.findings)
        operations = len({row.operation.path for row in self.rows if row.operation.kind != "input"})
        counts = [format_count(operations, "operation"), format_count(len(self.images), "image")]
        counts += [f"{len(self.failed)} failed"] if self.failed else []
        counts += ["interrupted"] if self.interrupted else []
        found = format_count(roots, "finding") if roots else "no findings"
        return f"{self.model}: {found} in {', '.join(counts)}, {self.seconds:.1f} s"

    def __repr__(self) -> str:
        return "\n".join([self.title, *(f"  {line}" for line in self.lines())])

    def lines(self) -> list[str]:
        """Return a line for each finding, and one for those that may follow from another."""
        lines = [finding.text for finding in self.findings if finding.follows is None]
        causes = Counter(finding.follows for finding in self.findings if finding.follows is not None)
        return lines + [
            f"{format_count(count, 'finding')} after {path} may follow from it" for path, count in causes.items()
        ]

    def table(self) -> tuple[list[str], dict[str, dict[str, DiagnosisRow]]]:
        """Return the measures that say something, and for each operation's path its row of each of them."""
        measures = list(dict.fromkeys(row.measure for row in self.rows))
        cells: dict[str, dict[str, DiagnosisRow]] = {}
        for row in self.rows:
            cells.setdefault(row.operation.path, {})[row.measure] = row
        return [name for name in self.readings if name in measures], cells

    def _repr_html_(self) -> str:
        """Return the findings and a table for notebooks."""
        measures, cells = self.table()
        past = {(finding.operation.path, finding.measure) for finding in self.findings}
        rows = [
            [
                path,
                *(
                    f"{of[name].number:.3g}{' !' if (path, name) in past else ''}" if name in of else ""
                    for name in measures
                ),
            ]
            for path, of in list(cells.items())[:MAX_TABLE_ROWS]
        ]
        lines: list[Html | str] = [escape_html(line) for line in self.lines()]
        lines += [escape_html(f"{failure.path}: {failure.reason}") for failure in self.failed]
        text = "".join(f"<div>{line}</div>" for line in lines[:MAX_TABLE_ROWS])
        return text + html_table(self.title, ["operation", *measures], rows)
