"""The layouts that the user requested, as rules for the operations of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from surgery.errors import SelectionError
from surgery.layouts.layout_functions import layout_text, parse_layout
from surgery.rewriting import Selection, parse_selection
from surgery.types import Operation, ValueLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

RequestedLayouts: TypeAlias = "ValueLayout | Mapping[Selection | str, ValueLayout | None] | None"
"""One layout for all operations, or one for each selection. The last selection that matches an operation applies."""


@dataclass(frozen=True, slots=True)
class LayoutRule:
    """A requested layout and the operations that it applies to."""

    layout: ValueLayout | None
    """None chooses the layout without a request."""
    at: str = ""
    """The selection as the user wrote it; empty for all operations."""
    paths: frozenset[str] | None = None
    """Paths of the selected operations; None for all operations."""

    def __str__(self) -> str:
        name = "auto" if self.layout is None else layout_text(self.layout)
        return f"{self.at}={name}" if self.at else name


def make_layout_rules(layouts: RequestedLayouts, chosen: Sequence[Operation]) -> tuple[LayoutRule, ...]:
    """Return a rule for each requested layout, for the chosen operations and the output.

    Raises SelectionError if a selection matches none of them.
    """
    if layouts is None:
        return ()
    if not isinstance(layouts, Mapping):
        return (LayoutRule(layouts),)
    rules = []
    operations = [*chosen, Operation("output", "output", "output", 0)]
    for at, layout in layouts.items():
        selection = parse_selection(at) if isinstance(at, str) else at
        paths = frozenset(operation.path for operation in operations if selection.matches(operation))
        if not paths:
            raise SelectionError(
                f"a layout is requested for {selection.text!r}, which matches none of {len(chosen)} chosen operations"
            )
        rules.append(LayoutRule(layout, selection.text, paths))
    return tuple(rules)


def parse_layouts(texts: Sequence[str]) -> RequestedLayouts:
    """Return the layouts that command-line texts name.

    ``channels-last`` applies to all operations, ``norm*=tokens:14x14`` to a selection. Raises RenderError for an
    unknown layout.
    """
    layouts: dict[Selection | str, ValueLayout | None] = {}
    for text in texts:
        selection, equals, name = text.rpartition("=")
        at = selection.strip() if equals else "*"
        layouts.pop(at, None)  # moves the key to the end, since the last match applies
        layouts[at] = parse_layout(name.strip())
    return layouts or None
