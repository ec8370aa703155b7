"""The view of maximized channels. Nothing here imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from surgery.cli.console import Text
from surgery.cli.tables import fitted_table
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from surgery.synthesis import Maximized


def maximized_view(found: Maximized, files: Sequence[str], folder: Path, width: int) -> RenderableType:
    """Return a table with a row for each channel, and where the files are; `files` are the pictures, then the sheet."""
    rows = [
        {
            "channel": Text(str(channel), style="bold"),
            "mean before": Text(f"{before:.3g}"),
            "mean after": Text(f"{after:.3g}", style="green" if after > before else "yellow"),
            "file": Text(file),
        }
        for channel, before, after, file in zip(found.channels, found.before, found.after, files, strict=False)
    ]
    title = Text.assemble((found.operation.path, "bold"), f"  {format_count(len(found.channels), 'channel')} maximized")
    table = fitted_table(rows, ["channel", "mean before", "mean after", "file"], width)
    counts = Text.assemble((f"{folder}/", "bold green"), f"  {format_count(len(files) + 1, 'file')}")
    return Group(title, Text(), table, Text(), counts, Text.assemble(("look at ", "dim"), f"{folder / files[-1]}"))
