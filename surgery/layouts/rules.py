"""The layouts that were asked for, as rules for the operations of one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from surgery.errors import SelectionError
from surgery.layouts.value_layouts import LayoutRule, layout_named
from surgery.rewriting import Selection, parse_selection
from surgery.types import Operation, ValueLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

Layouts: TypeAlias = "ValueLayout | Mapping[Selection | str, ValueLayout | None] | None"
"""A layout for all operations, or one for each of several selections, of which the last that matches holds."""


def layout_rules(layouts: Layouts, chosen: Sequence[Operation]) -> tuple[LayoutRule, ...]:
    """What is asked for, for the operations that were chosen and for the output.

    Raises SelectionError for a selection that matches none of them.
    """
    if layouts is None:
        return ()
    if not isinstance(layouts, Mapping):
        return (LayoutRule(layouts),)
    rules = []
    known = [*chosen, Operation("output", "output", "output", 0)]
    for given, layout in layouts.items():
        selection = parse_selection(given) if isinstance(given, str) else given
        paths = frozenset(operation.path for operation in known if selection.matches(operation))
        if not paths:
            raise SelectionError(
                f"a layout is asked for {selection.text!r}, which matches none of {len(chosen)} chosen operations"
            )
        rules.append(LayoutRule(layout, selection.text, paths))
    return tuple(rules)


def layouts_of(texts: Sequence[str]) -> Layouts:
    """What the command line says: ``channels-last`` for all operations, ``norm*=tokens:14x14`` for some.

    Raises RenderError where no layout is called so.
    """
    layouts: dict[Selection | str, ValueLayout | None] = {}
    for text in texts:
        selection, equals, name = text.rpartition("=")
        at = selection.strip() if equals else "*"
        layouts.pop(at, None)  # so that the last holds, whatever was said before
        layouts[at] = layout_named(name.strip())
    return layouts or None
