"""The view of a comparison: a row for each operation, with bars on a logarithmic scale. Nothing here imports torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from surgery.comparison import ComparedOperation, RunComparison
    from surgery.types import Operation

_DECADES = 8
"""How many powers of ten below 1 a bar shows."""
_NARROW, _WIDE = 10, 24
"""Characters of the longest bar, in a terminal of less than 100 columns and in others."""
_LEVELS = "▁▂▃▄▅▆▇█"
_FIRST, _CHANGED, _SAME = "▸", "◆", "•"


def comparison_view(found: RunComparison, sort: str, width: int) -> RenderableType:
    """Return a view of a comparison. `sort` is relative, own or execution."""
    lines = [Text(found.finding(run), style="bold") for run in found.runs[1:]]
    lines += [Text(f"{run}: {text}", style="yellow") for run, text in found.unmatched.items()]
    table = _pair_table(found, sort, width) if len(found.runs) == 2 else _runs_table(found, sort, width)
    counts = f"{format_count(found.images, 'image')}, {found.seconds:.1f} s"
    legend = f"{_FIRST} the first that is not bit-equal, {_CHANGED} the first above {found.threshold:g}"
    scale = f"bars: relative difference from 1e-{_DECADES} to 1, on a logarithmic scale"
    end = [Text(legend, style="dim"), Text(scale, style="dim"), Text(counts)]
    if found.folder is not None:
        end[-1] = Text.assemble((f"{found.folder}/", "bold green"), f"  {counts}")
    if found.interrupted:
        end[-1].append("  interrupted: the finished images are complete", style="bold yellow")
    if found.sheet is not None:
        end.append(Text.assemble(("look at ", "dim"), f"{found.sheet}"))
    return Group(*lines, Text(), table, Text(), *end)


def log_share(relative: float) -> float:
    """Return the length of a bar for a relative difference: 0 for ``1e-8`` and less, 1 for 1 and more."""
    if not relative > 0:
        return 0.0
    return min(1.0, max(0.0, 1 + math.log10(relative) / _DECADES)) if math.isfinite(relative) else 1.0


def _pair_table(found: RunComparison, sort: str, width: int) -> RenderableType:
    length = _WIDE if width >= 100 else _NARROW
    first, changed = found.first_different(), found.first_changed()
    rows = []
    for row in _sorted(found.rows, sort):
        cells = _measures(row)
        relative = 0.0 if row.mean is None else row.mean.relative
        bar = "█" * max(round(log_share(relative) * length), int(relative > 0))
        rows.append(
            {
                " ": _mark(row, first, changed),
                "operation": _operation(row.operation, is_marked=row in (first, changed)),
                "difference": Text(bar, style=_style(relative, found.threshold)),
                **{name: Text(text) for name, text in cells.items()},
                "remark": Text(row.reason or _counterpart(row), style="yellow"),
            }
        )
    columns = [" ", "operation", "difference", "relative", "own", "remark", "SNR", "equal", "cosine"]
    return fitted_table(rows, columns, width)


def _runs_table(found: RunComparison, sort: str, width: int) -> RenderableType:
    """Return a table with a column for each run; one of a character for each, where the columns don't fit."""
    by_operation: dict[Operation, dict[str, ComparedOperation]] = {}
    for row in found.rows:
        by_operation.setdefault(row.operation, {})[row.run] = row
    worst = [max(each.values(), key=_size) for each in by_operation.values()]
    order = [row.operation for row in _sorted(worst, sort)]
    others = found.runs[1:]
    firsts = {run: found.first_different(run) for run in others}, {run: found.first_changed(run) for run in others}
    cells = {
        operation: {run: _run_cell(row, found.threshold, [first[run] for first in firsts]) for run, row in each.items()}
        for operation, each in by_operation.items()
    }
    widths = [max(len(run), *(cells[operation][run].cell_len for operation in order)) for run in others]
    names = max(len("operation"), *(len(operation.path) for operation in order))
    if names + sum(size + 2 for size in widths) <= width:
        rows = [{"operation": _operation(operation), **cells[operation]} for operation in order]
        return fitted_table(rows, ["operation", *others], width)
    strips = [
        {"operation": _operation(operation), "runs": _strip(list(by_operation[operation].values()), found.threshold)}
        for operation in order
    ]
    legend = Text(f"a character for each of {', '.join(others)}, against {found.runs[0]}", style="dim")
    return Group(fitted_table(strips, ["operation", "runs"], max(width, names + 2 + len(others))), Text(), legend)


def _run_cell(row: ComparedOperation, threshold: float, firsts: Sequence[ComparedOperation | None]) -> Text:
    if row.mean is None:
        return Text("–", style="dim")
    if row.is_equal:
        return Text("  equal", style="dim")
    mark = _mark(row, *firsts)
    text = _measures(row)["relative"]
    return Text.assemble(mark or " ", _level(row, threshold), f" {text}")


def _strip(rows: Sequence[ComparedOperation], threshold: float) -> Text:
    return Text.assemble(*(_level(row, threshold) for row in rows))


def _level(row: ComparedOperation, threshold: float) -> Text:
    if row.mean is None:
        return Text(" ")
    if row.is_equal:
        return Text(_SAME, style="dim")
    level = min(len(_LEVELS) - 1, int(log_share(row.mean.relative) * len(_LEVELS)))
    return Text(_LEVELS[level], style=_style(row.mean.relative, threshold))


def _mark(row: ComparedOperation, first: ComparedOperation | None, changed: ComparedOperation | None) -> Text:
    if row is changed:
        return Text(_CHANGED, style="bold red")
    return Text(_FIRST, style="bold yellow") if row is first else Text()


def _operation(operation: Operation, *, is_marked: bool = False) -> Text:
    return Text(operation.path, style="bold underline" if is_marked else "bold")


def _counterpart(row: ComparedOperation) -> str:
    if row.counterpart is not None and row.counterpart.rstrip("'") == row.operation.path:
        return "edited" if row.counterpart != row.operation.path else ""
    return f"against {row.counterpart}"


def _measures(row: ComparedOperation) -> dict[str, str]:
    from surgery.comparison import format_relative, format_snr

    if row.mean is None:
        return {}
    if row.is_equal:
        return {"relative": "equal"}
    mean = row.mean
    return {
        "relative": format_relative(mean.relative),
        "own": "" if row.own is None else format_relative(row.own),
        "SNR": format_snr(mean.snr),
        "equal": f"{mean.equal:.1%}",
        "cosine": f"{mean.cosine:.4f}",
    }


def _style(relative: float, threshold: float) -> str:
    return "red" if relative > threshold else "blue"


def _size(row: ComparedOperation) -> float:
    return -1.0 if row.mean is None else row.mean.relative


def _sorted(rows: Sequence[ComparedOperation], sort: str) -> list[ComparedOperation]:
    if sort == "own":
        return sorted(rows, key=lambda row: -1.0 if row.own is None else row.own, reverse=True)
    return sorted(rows, key=_size, reverse=True) if sort == "relative" else list(rows)
