"""Tuples that are shown in a few lines, however long they are."""

from __future__ import annotations

from typing import TypeVar

from surgery.text import PICTURES, Html, table
from surgery.types import Activation, Operation

T = TypeVar("T")

LINES = 20
"""So many items are shown."""


class Listing(tuple[T, ...]):
    """A tuple whose text has a line for each of its first items."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [f"  {item!r}," for item in self[:LINES]]
        lines += [f"  ... and {len(self) - LINES} more"] if len(self) > LINES else []
        return "\n".join(["(", *lines, ")"]) if lines else "()"


class Operations(Listing[Operation]):
    """Operations, in order of execution."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """How a notebook shows them."""
        rows = [(o.index, o.path, o.kind, "" if o.tensors is None else o.shapes(), o.source or "") for o in self]
        return table(f"{len(self)} operations", ("", "operation", "kind", "shape", "line"), rows)


class Activations(Listing[Activation]):
    """Activations, in order of execution."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """How a notebook shows them: the first with their pictures."""
        rows = []
        for number, activation in enumerate(self):
            picture = activation.thumbnail(128) if number < PICTURES else Html("")
            rows.append((activation.path, activation.operation.kind, activation.summary(), picture))
        return table(f"{len(self)} activations", ("operation", "kind", "values", ""), rows)
