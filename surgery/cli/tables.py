"""Tables that fit the terminal, and the texts of numbers, shapes and lists in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from surgery.cli.console import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import JustifyMethod

    from surgery.types import TensorSpec

MIN_COLUMN_WIDTH = 12
"""A column that needs more characters is cut when at least so many fit, and left out otherwise."""

_RIGHT_ALIGNED = ("", "size", "range")


def fitted_table(
    rows: Sequence[dict[str, Text]], columns: Sequence[str], width: int, right: Sequence[str] = _RIGHT_ALIGNED
) -> Table:
    """Return a table of the leading columns that fit `width` characters, without empty columns.

    `columns` are in the order of their importance. The first column is always there; the last may be cut.
    Those in `right` are aligned to the right.
    """
    table = plain_table()
    room = width
    for number, column in enumerate(columns):
        cells = [row[column].cell_len for row in rows if column in row]
        if number and not any(cells):
            continue
        needed = max([len(column), *cells])
        if number and room < min(needed, MIN_COLUMN_WIDTH):
            break
        column_width = min(needed, max(room, MIN_COLUMN_WIDTH))
        justify: JustifyMethod = "right" if column in right else "left"
        table.add_column(column, width=column_width, no_wrap=True, overflow="ellipsis", justify=justify)
        room -= column_width + 2
    for row in rows:
        table.add_row(*(row.get(str(column.header), Text()) for column in table.columns))
    return table


def plain_table() -> Table:
    """Return an empty table without lines, with a dim header."""
    return Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def format_shapes(tensors: tuple[TensorSpec, ...] | None) -> str:
    """Return the shapes of a value's tensors, such as ``1×3×8×8``; "" for None, which means unknown."""
    if tensors is None:
        return ""
    if len(tensors) > 3:
        return f"{len(tensors)} tensors"
    return ", ".join("×".join(map(str, spec.shape)) or "scalar" for spec in tensors)


def format_names(names: Sequence[str], limit: int = 24) -> str:
    """Return names joined by commas: up to `limit` of them, those without a namespace first, and how many are left."""
    shown = [name for name in names if ":" not in name] or list(names)
    joined = ", ".join(shown[:limit])
    return f"{joined} and {len(names) - limit} more" if len(names) > limit else joined
