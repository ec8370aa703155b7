"""Tuples that are shown in a few lines, however long they are."""

from __future__ import annotations

from typing import TypeVar

from surgery.text import MAX_PICTURES, Html, html_table
from surgery.types import Activation, Operation

T = TypeVar("T")

MAX_LINES = 20
"""So many items are shown."""


class Listing(tuple[T, ...]):
    """A tuple whose text has a line for each of its first items."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [f"  {item!r}," for item in self[:MAX_LINES]]
        lines += [f"  ... and {len(self) - MAX_LINES} more"] if len(self) > MAX_LINES else []
        return "\n".join(["(", *lines, ")"]) if lines else "()"


class Operations(Listing[Operation]):
    """Operations, in order of execution."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """How a notebook shows them."""
        rows = [(o.index, o.path, o.kind, "" if o.tensors is None else o.shapes(), o.source or "") for o in self]
        return html_table(f"{len(self)} operations", ("", "operation", "kind", "shape", "line"), rows)


class Activations(Listing[Activation]):
    """Activations, in order of execution."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """How a notebook shows them: the first with their pictures."""
        rows = []
        for number, activation in enumerate(self):
            picture = activation.thumbnail(128) if number < MAX_PICTURES else Html("")
            rows.append((activation.path, activation.operation.kind, activation.summary(), picture))
        return html_table(f"{len(self)} activations", ("operation", "kind", "values", ""), rows)
