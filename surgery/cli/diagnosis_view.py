"""The view of a diagnosis: a table of its numbers, and its findings in words. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from surgery.diagnosis import Diagnosis, DiagnosisRow

_STYLES = {"severe": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"severe": "!!", "warning": "!", "note": "-"}


def diagnosis_view(diagnosis: Diagnosis, top: int, width: int) -> RenderableType:
    """Return a view of a diagnosis: its table in order of execution, the findings, and where the files are.

    Of more than `top` operations, those with findings are shown first, then those at the start. A number with a finding
    has an exclamation mark.
    """
    measures, cells = diagnosis.table()
    past = {(each.operation.path, each.measure): each.severity for each in diagnosis.findings}
    with_findings = {path for path, _ in past}
    shown = sorted(cells, key=lambda path: path not in with_findings)[:top]
    rows = [
        {"operation": Text(path, style="bold" if path in with_findings else "")}
        | {name: _number(of[name], past.get((path, name))) for name in measures if name in of}
        for path, of in cells.items()
        if path in set(shown)
    ]
    columns = _order(measures, [row for of in cells.values() for row in of.values()], {name for _, name in past})
    lines: list[RenderableType] = [Text(diagnosis.title, style="bold"), Text()]
    lines += [fitted_table(rows, ["operation", *columns], width)]
    if len(cells) > len(rows):
        lines.append(Text(f"and {len(cells) - len(rows)} more operations", style="dim"))
    lines.append(Text())
    severities = {each.text: each.severity for each in diagnosis.findings}
    for line in diagnosis.lines():
        severity = severities.get(line, "note")
        lines.append(Text.assemble((f"{_MARKS[severity]:2} ", _STYLES[severity]), line))
    if not diagnosis.findings:
        lines.append(Text("no number is past its threshold", style="green"))
    lines += _footer(diagnosis)
    return Group(*lines)


def _number(row: DiagnosisRow, severity: str | None) -> Text:
    style = _STYLES[severity] if severity else "" if row.number else "dim"
    return Text(f"{row.number:.2g}{' !' if severity else ''}", style=style)


def _order(measures: list[str], rows: list[DiagnosisRow], past: set[str]) -> list[str]:
    """Return the measures as columns: those with findings first, without those that are zero everywhere."""
    told = {row.measure for row in rows if row.number}
    return sorted((name for name in measures if name in told), key=lambda name: name not in past)


def _footer(diagnosis: Diagnosis) -> list[RenderableType]:
    if diagnosis.folder is None:
        return []
    counts = Text.assemble((f"{diagnosis.folder}/", "bold green"), "  plots, diagnosis.json, diagnosis.csv")
    if diagnosis.interrupted:
        counts.append("  interrupted: the finished images are counted", style="bold yellow")
    return [Text(), counts, Text.assemble(("look at ", "dim"), f"{diagnosis.sheet}")]
