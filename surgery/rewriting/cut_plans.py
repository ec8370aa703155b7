"""Where one graph of a model is cut: what is computed between the ends, what crosses, what is returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import SelectionError, TraceError
from surgery.rewriting.places import Place, Places
from surgery.rewriting.sections import Section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx


@dataclass(frozen=True, slots=True)
class CutPlan:
    """A part of one graph."""

    section: Section
    chosen: tuple[Place, ...]
    """The inputs that come first."""
    output: Any
    """The nodes of the values that are returned: one, or a tuple. None for the output of the whole graph."""
    kept: tuple[fx.Node, ...] = ()
    """The nodes whose values are returned as they were computed."""

    def inputs(self) -> dict[Place, str]:
        """Return the inputs in order, with their names."""
        places = dict.fromkeys((*self.chosen, *self.section.inputs))
        return {place: self._name(place) for place in places}

    def _name(self, place: Place) -> str:
        node = self.section.places.node_at(place)
        return place.path.lstrip("*") if node is None or place.kind == "input" else node.name


def plan_cut(
    traced: fx.GraphModule, graph: fx.Graph, after: Sequence[str], returned: Sequence[str] | Sequence[Place] | None
) -> CutPlan:
    """Return where a graph is cut.

    `after` are the paths of the operations that the part begins after, and `returned` those of the operations whose
    values it returns, as they were computed, or the places of the values that it returns as they are at its end; None
    for the whole output.

    Raises SelectionError if the end is not behind the beginning, or if nothing needs the value of an operation of
    `after`, and TraceError if the graph lacks an operation, or if something crosses that can't.
    """
    places = Places(traced, graph)
    start = max((places.count_up_to(path) for path in after), default=0)
    stop, output, nodes = len(places.nodes), None, ()
    if returned is not None:
        values = [_value(places, each) for each in returned]
        nodes = tuple(node for value in values for node in (value if isinstance(value, tuple) else (value,)))
        paths = [each.path if isinstance(each, Place) else each for each in returned if _is_operation(each)]
        stop = max((places.count_up_to(path) for path in paths), default=0)
        is_single = len(values) == 1 and not isinstance(returned[0], Place)
        output = values[0] if is_single else tuple(values)
        if stop <= start:
            raise SelectionError(
                f"{paths[-1] if paths else 'the end'} is not computed after {after[-1]}, where the part begins"
            )
    chosen = [node for path in after for node in places.group(path).values]
    section = Section(traced, places, range(start, stop), chosen, nodes)
    as_computed = nodes if returned is not None and not isinstance(returned[0], Place) else ()
    return CutPlan(section, tuple(_chosen_inputs(section, after)), output, as_computed)


def _is_operation(end: str | Place) -> bool:
    return isinstance(end, str) or end.kind == "operation"


def _value(places: Places, end: str | Place) -> Any:
    """Return the node of a value that is returned, or a tuple of nodes if the value of an operation has several."""
    if isinstance(end, Place):
        node = places.node_at(end)
        if node is None:
            raise TraceError(f"the graph has no {end.kind} {end.path!r}, which until= names; cut both from one model")
        return node
    values = places.group(end).values
    return values[0] if len(values) == 1 else values


def _chosen_inputs(section: Section, after: Sequence[str]) -> dict[Place, None]:
    """Return the inputs that are values of the operations of `after`, by whose paths they are then called."""
    chosen: dict[Place, None] = {}
    for path in after:
        needed = [
            (node, place)
            for node in section.places.group(path).values
            for place, nodes in section.inputs.items()
            if node in nodes
        ]
        if not needed:
            beginning = "it" if path == after[-1] else after[-1]
            raise SelectionError(f"nothing after {beginning} needs the value of {path}; leave it out of after=")
        for node, place in needed:
            own = section.places.of_node[node]
            if place != own:
                _check_not_overwritten(section, node, place)
                section.inputs[own] = section.inputs.pop(place)
            chosen[own] = None
    return chosen


def _check_not_overwritten(section: Section, node: fx.Node, place: Place) -> None:
    writer = section.places.node_at(place)
    order = section.places.order
    if writer is not None and order[writer] > order[node] and section.memory.writes_to_result(writer):
        path = section.places.of_node[node].path
        raise SelectionError(f"{place.path} overwrites the value of {path} before the cut; choose it for after=")
