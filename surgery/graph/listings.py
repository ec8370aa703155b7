"""Tuples of operations and of activations whose text and HTML are of bounded length."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from surgery.text import MAX_PICTURES, Html, format_count, html_table
from surgery.types import Activation, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

T = TypeVar("T")

MAX_LINES = 20
"""The items that are shown as text."""


class Listing(tuple[T, ...]):
    """A tuple whose repr has one line for each of its first `MAX_LINES` items."""

    __slots__ = ()

    def __repr__(self) -> str:
        lines = [f"  {item!r}," for item in self[:MAX_LINES]]
        lines += [f"  ... and {len(self) - MAX_LINES} more"] if len(self) > MAX_LINES else []
        return "\n".join(["(", *lines, ")"]) if lines else "()"


class Operations(Listing[Operation]):
    """Operations in order of execution."""

    matches: Callable[[Operation], bool] | None = None
    """The selection that chose them, if one did: it also tells whether an operation that only another run has is one of
    them."""

    def _repr_html_(self) -> str:
        """Return an HTML table for a notebook."""
        rows = [(o.index, o.path, o.kind, "" if o.tensors is None else o.shapes(), o.source or "") for o in self]
        return html_table(f"{len(self)} operations", ("", "operation", "kind", "shape", "line"), rows)


def model_html(name: str, listed: Operations, extracted: Collection[str], edited: Collection[str] = ()) -> str:
    """Return the table of a traced or rewritten model for a notebook.

    `extracted` and `edited` are the paths of operations behind which an extractor is, and of edited values.
    """
    rows = []
    for operation in listed:
        marks = ["◉ extracted"] if operation.path in extracted else []
        marks += ["◆ edited"] if operation.path in edited else []
        shapes = "" if operation.tensors is None else operation.shapes()
        rows.append((operation.index, operation.path, operation.kind, shapes, operation.source or "", " ".join(marks)))
    counts = [format_count(len(listed), "operation"), *([f"{len(extracted)} extracted"] if extracted else [])]
    title = f"{name}: {', '.join([*counts, *([f'{len(edited)} edited'] if edited else [])])}"
    return html_table(title, ("", "operation", "kind", "shape", "line", ""), rows)


class Activations(Listing[Activation]):
    """Activations in order of execution."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return an HTML table for a notebook, with pictures of the first activations."""
        columns = ["operation", "kind", "values", ""]
        columns += ["gradient"] if any(activation.gradient is not None for activation in self) else []
        rows = []
        for number, activation in enumerate(self):
            shown = [activation, *([activation.gradient] if "gradient" in columns else [])]
            pictures = [
                Html("") if each is None or number * len(shown) >= MAX_PICTURES else each.thumbnail(128)
                for each in shown
            ]
            rows.append((activation.path, activation.operation.kind, activation.summary(), *pictures))
        return html_table(f"{len(self)} activations", columns, rows)
