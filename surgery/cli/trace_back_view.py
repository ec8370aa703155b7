"""The view of what a pixel depends on. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table
from surgery.diagnosis import table_cells
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from surgery.diagnosis import PixelTrace

_STYLES = {"operation": "bold", "can reach": "cyan", "95 % within": "magenta"}


def pixel_trace_view(trace: PixelTrace, files: Sequence[str], folder: Path, width: int) -> RenderableType:
    """Return a table with a row for each field, and where the files are; the sheet is the last of `files`."""
    rows = [
        {name: Text(cell, style=_STYLES.get(name, "")) for name, cell in table_cells(field).items()} for field in trace
    ]
    table = fitted_table(rows, list(rows[0]) if rows else ["operation"], width)
    counts = Text.assemble((f"{folder}/", "bold green"), f"  {format_count(len(files) + 1, 'file')}")
    look = Text.assemble(("look at ", "dim"), f"{folder / files[-1]}")
    return Group(Text(trace.title(), style="bold"), Text(), table, Text(), counts, look)
