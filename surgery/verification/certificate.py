"""The certificate of a rewritten model, as a value to be shown and stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from surgery.graph import TraceInfo
from surgery.text import Html, escape_html, format_count, html_table

if TYPE_CHECKING:
    from surgery.graph import FrontEnd, Reach


@dataclass(frozen=True, slots=True)
class Comparison:
    """One property that was compared in one case."""

    what: str
    """``output``, ``values``, ``random numbers``, ``buffers``, ``modes``, ``gradients`` or ``hooks`` of a run;
    ``parameters`` or ``the original`` for what is compared once, after all runs."""
    mode: str
    """``eval``, ``train`` or ``as-is``; empty for a comparison after all runs."""
    case: str
    """``example``, ``again``, ``batch 2`` or ``256x512``; empty for a comparison after all runs."""
    same: bool | None
    """Whether all bits are the same; None if there was nothing to compare."""
    count: int
    """How many tensors, modules or hooks were compared."""
    difference: str = ""
    """The first difference in words, or the reason why nothing was compared."""

    def describe(self) -> str:
        """Return one line: what was compared, in which case, and the difference."""
        case = ", ".join(filter(None, (self.mode, self.case)))
        return f"{self.what}{f' ({case})' if case else ''}: {self.difference}"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The result of `certify`: every comparison of a rewritten model with the original."""

    model: str
    """The class of the original."""
    operations: int
    """How many operations the graph has."""
    extracted: int
    """How many of them have an extractor."""
    comparisons: tuple[Comparison, ...]
    tracing: TraceInfo
    """How the traced model was made."""
    edits: tuple[str, ...] = ()
    """The edits of the rewritten model: ``up3.cat = zero:channels=0-15``."""

    @property
    def front_end(self) -> FrontEnd | None:
        """``symbolic`` or ``observed``; None for a graph that `surgery.trace` did not make."""
        return self.tracing.front_end

    @property
    def reason(self) -> str | None:
        """Why the model is observed; None for a graph, or if it was asked for."""
        return self.tracing.reason

    @property
    def is_verified(self) -> bool:
        """Whether `surgery.trace` compared the traced model with the model on an example."""
        return self.tracing.is_verified

    @property
    def reach(self) -> Reach | None:
        """How much of an observed model is seen."""
        return self.tracing.reach

    @property
    def same(self) -> bool:
        """Whether no comparison found a difference."""
        return all(comparison.same is not False for comparison in self.comparisons)

    @property
    def difference(self) -> str:
        """The first difference in one line, that of an operation's value if there is one; empty without differences."""
        failed = [comparison for comparison in self.comparisons if comparison.same is False]
        values = [comparison for comparison in failed if comparison.what == "values"]
        return next((comparison.describe() for comparison in (*values, *failed)), "")

    def describe_tracing(self) -> tuple[str, ...]:
        """Return lines that say how the traced model was made, whether it was verified, and how much of it is seen."""
        return self.tracing.describe() or ("a graph that surgery.trace did not make, unverified",)

    def __repr__(self) -> str:
        parts = [self._title(), *self.describe_tracing(), self.verdict]
        return f"Certificate({'; '.join(parts)})"

    def _repr_html_(self) -> str:
        """Return a table for notebooks: a row for each property, a column for each case."""
        by_cell = {(c.what, c.mode, c.case): c for c in self.comparisons}
        cases = list(dict.fromkeys((c.mode, c.case) for c in self.comparisons))
        rows = [
            (what, *(_cell(by_cell.get((what, *case))) for case in cases))
            for what in dict.fromkeys(c.what for c in self.comparisons)
        ]
        header = ["", *(" ".join(case) for case in cases)]
        lines = Html("").join(f"<div>{escape_html(line)}</div>" for line in (*self.describe_tracing(), self.verdict))
        return f"{html_table(self._title(), header, rows)}{lines}"

    def _title(self) -> str:
        return f"{self.model}: {format_count(self.operations, 'operation')}, {self.extracted} extracted"

    @property
    def verdict(self) -> str:
        """The result in one line."""
        same = "the same without its edits and upstream of them" if self.edits else "the same"
        return f"{same}, bit for bit" if self.same else f"not the same: {self.difference}"

    def record(self) -> dict[str, Any]:
        """Return the certificate as plain values, for JSON."""
        return {
            "model": self.model,
            "operations": self.operations,
            "extracted": self.extracted,
            "edits": list(self.edits),
            "front_end": self.front_end,
            "reason": self.reason,
            "verified": self.is_verified,
            "reach": None if self.reach is None else {"share": self.reach.share, **asdict(self.reach)},
            "same": self.same,
            "difference": self.difference,
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
        }


def _cell(comparison: Comparison | None) -> str:
    if comparison is None or comparison.same is None:
        return ""
    return f"{comparison.count} ✓" if comparison.same else "✗"
