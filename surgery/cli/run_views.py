"""Views of the results of `extract` and `check`. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table, format_shapes, plain_table
from surgery.output import drawing_notes, unusual_layout
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from surgery.output import OperationSummary, Report
    from surgery.verification import Certificate, Comparison


def report_view(report: Report, width: int) -> RenderableType:
    """Return a view of a run: a row for each operation, and where the files are."""
    if report.images:
        counts = [format_count(report.images, "image"), format_count(report.files, "file"), f"{report.seconds:.1f} s"]
        counts[:1] += _finished_before(report)
        last_line = Text.assemble((f"{report.folder}/", "bold green"), f"  {', '.join(counts)}")
    else:
        recorded = f"; {report.folder}/ has a manifest that says so" if report.files else ", and nothing was written"
        last_line = Text(f"no image was finished{recorded}", style="bold yellow")
    if report.interrupted:
        last_line.append("  interrupted: the finished images are complete", style="bold yellow")
        last_line.append("; the same command goes on", style="bold yellow")
    if not report.summaries:
        return last_line
    rows = [_operation_row(summary) for summary in report.summaries]
    table = fitted_table(rows, ["", "operation", "kind", "shape", "range", "remarks"], width)
    notes = [Text(line, style="dim") for line in (*report.way_notes(), *drawing_notes(report.summaries))]
    overview = [Text.assemble(("look at ", "dim"), f"{report.overview}")] if report.overview is not None else []
    return Group(table, Text(), *notes, last_line, *overview)


def _finished_before(report: Report) -> list[str]:
    """Return what an earlier run has finished, in words; nothing if there was none."""
    if report.finished_before == report.images:
        return ["all finished before (--overwrite begins anew)"]
    return [f"{report.finished_before} of them finished before"] if report.finished_before else []


def runs_view(reports: Sequence[Report], page: Path | None, width: int) -> RenderableType:
    """Return a view of several runs: a row for each, and their page if they have one."""
    if not reports:
        return Text("no run was finished", style="bold yellow")
    rows = [_run_row(report) for report in reports]
    table = fitted_table(rows, ["run", "images", "files", "seconds", "remarks"], width)
    look = [Text(), Text.assemble(("look at ", "dim"), f"{page}")] if page is not None else []
    return Group(table, *look)


def _run_row(report: Report) -> dict[str, Text]:
    constant = sum(summary.facts.constant_channels > 0 for summary in report.summaries)
    not_finite = [summary.operation.path for summary in report.summaries if summary.facts.nan or summary.facts.inf]
    remarks = [f"constant channels in {format_count(constant, 'operation')}"] if constant else []
    remarks += [f"NaN or infinite from {not_finite[0]} on"] if not_finite else []
    remarks += [f"{len(report.failed)} failed"] if report.failed else []
    remarks += ["interrupted"] if report.interrupted else []
    return {
        "run": Text(f"{report.folder}/", style="bold green"),
        "images": Text(f"{report.images}"),
        "files": Text(f"{report.files}"),
        "seconds": Text(f"{report.seconds:.1f}"),
        "remarks": Text(", ".join(remarks), style="bold red" if not_finite else "yellow"),
    }


def _operation_row(summary: OperationSummary) -> dict[str, Text]:
    operation, facts = summary.operation, summary.facts
    remarks = ["new"] if operation.is_new else []
    remarks += [f"{facts.constant_channels}/{facts.channels} constant"] if facts.constant_channels else []
    remarks += ["NaN"] * facts.nan + ["infinite"] * facts.inf
    remarks += [f"in {summary.pictures} parts"] if summary.pictures > 1 else []
    remarks += [layout] if (layout := unusual_layout(summary)) else []
    return {
        "": Text(f"{operation.index:03}", style="dim"),
        "operation": Text(operation.path, style="bold"),
        "kind": Text(operation.kind, style="cyan"),
        "shape": Text(format_shapes(operation.tensors)),
        "range": Text("" if facts.min is None else f"{facts.min:.3g} … {facts.max:.3g}"),
        "remarks": Text(", ".join(remarks), style="bold red" if facts.nan or facts.inf else "yellow"),
    }


def certificate_view(certificate: Certificate, width: int) -> RenderableType:
    """Return a view of a certificate: a row for each thing compared, a column for each case, and the verdict.

    Where the columns don't fit, there is a table for each mode.
    """
    by_case = [comparison for comparison in certificate.comparisons if comparison.mode]
    modes = list(dict.fromkeys(comparison.mode for comparison in by_case))
    parts = [modes] if _fits(by_case, width) else [[mode] for mode in modes]
    tables = [_comparison_table(by_case, part) for part in parts]
    count = format_count(certificate.operations, "operation")
    title = Text(f"{certificate.model}: {count}, {certificate.extracted} extracted")
    origin_style = "dim" if certificate.is_verified else "yellow"
    origin = [Text(line, style=origin_style) for line in certificate.describe_tracing()]
    lines = [
        Text.assemble(f"{comparison.what}  ", _comparison_cell(comparison))
        for comparison in certificate.comparisons
        if not comparison.mode
    ]
    lines += [
        Text(comparison.describe(), style="yellow")
        for comparison in certificate.comparisons
        if comparison.same is None and comparison.difference
    ]
    if certificate.same:
        lines.append(Text(certificate.verdict, style="bold green"))
    else:
        lines.append(Text(f"not the same: {certificate.difference}", style="bold red"))
    spaced = [part for table in tables for part in (Text(), table)]
    return Group(title, *origin, *spaced, Text(), *lines)


def _fits(comparisons: Sequence[Comparison], width: int) -> bool:
    """Return whether a table with a column for each case fits."""
    cases: dict[tuple[str, str], int] = {}
    for each in comparisons:
        column = (each.mode, each.case)
        cells = len(each.mode), len(each.case), _comparison_cell(each).cell_len
        cases[column] = max(cases.get(column, 0), *cells)
    return max(len(each.what) for each in comparisons) + sum(size + 2 for size in cases.values()) <= width


def _comparison_table(comparisons: Sequence[Comparison], modes: Sequence[str]) -> Table:
    """Return a table with a row for each thing compared, and a column for each case of some modes."""
    table = plain_table()
    cases = [case for case in dict.fromkeys((each.mode, each.case) for each in comparisons) if case[0] in modes]
    table.add_column("", no_wrap=True)
    for mode, case in cases:
        shown = case.replace("x", "×") if case[0].isdigit() else case
        table.add_column(f"{mode}\n{shown}", justify="right", no_wrap=True)
    by_cell = {(comparison.what, comparison.mode, comparison.case): comparison for comparison in comparisons}
    for what in dict.fromkeys(comparison.what for comparison in comparisons):
        table.add_row(Text(what), *(_comparison_cell(by_cell.get((what, *case))) for case in cases))
    return table


def _comparison_cell(comparison: Comparison | None) -> Text:
    if comparison is None or comparison.same is None:
        return Text("–", style="dim")
    return Text(f"{comparison.count} ✓", style="green") if comparison.same else Text("✗", style="bold red")
