"""The view of an estimate. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table
from surgery.text import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from surgery.extraction import Estimate


def estimate_view(estimate: Estimate, width: int) -> RenderableType:
    """Return a row for each operation, one for other files, one for all of them, and what the run needs."""
    rows = [_row(record["operation"], record) for record in estimate.records()]
    rows.append(_row("all", estimate.content(), "bold"))
    numbers = ["size", "files", "pixels", "values"]
    table = fitted_table(rows, ["operation", *numbers, "kind"], width, numbers)
    first, *others = estimate.lines()
    lines = [Text(line, style="dim") for line in others]
    return Group(table, Text(), Text.assemble((f"{estimate.folder}/", "bold green"), f"  {first}"), *lines)


def _row(name: str, numbers: dict[str, object], style: str = "") -> dict[str, Text]:
    def count(key: str) -> Text:
        return Text(f"{numbers[key]:,}" if numbers[key] else "", style=style)

    return {
        "operation": Text(name, style="bold"),
        "size": Text(format_bytes(float(str(numbers["bytes"]))), style=style),
        "files": count("files"),
        "pixels": count("pixels"),
        "values": count("values"),
        "kind": Text(str(numbers.get("kind", "")), style="cyan"),
    }
