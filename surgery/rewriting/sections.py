"""A stretch of a graph in order of execution, and the values that it needs from before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.errors import TraceError
from surgery.graph import SharedMemory, format_location, node_line, node_tensors
from surgery.rewriting.recomputation import (
    changes_shape,
    is_measure,
    is_recomputed,
    is_view,
    may_copy,
    open_blocks,
    reads_values,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from torch import fx

    from surgery.rewriting.places import Place, Places


class Section:
    """The nodes from `start` to `stop` of a graph, and what they need from the nodes before.

    A tensor that several nodes have in common, such as that of an operation that works in place, is needed once: as it
    is where the section begins. So is a buffer that is used on both sides and written to on one. All other parameters
    and buffers belong to the section, and sizes are computed in it. So are views of a tensor that is needed too, if the
    section writes to their memory.
    """

    def __init__(
        self,
        model: fx.GraphModule,
        places: Places,
        span: range,
        chosen: Collection[fx.Node] = (),
        outputs: Collection[fx.Node] = (),
    ) -> None:
        """`span` has the positions of the nodes. `chosen` are nodes before them that are inputs in any case.

        `outputs` are nodes whose values are needed beside those that the nodes of the section take.

        Raises TraceError for a value that is needed, is no tensor, and can't be computed again.
        """
        self.places = places
        self.before = places.nodes[: span.start]
        self.inside = places.nodes[span.start : span.stop]
        self.memory = SharedMemory(model, places.graph)
        self._same = self._find_same_tensors()
        self._shared_attributes = self._find_shared_attributes()
        self.inputs: dict[Place, set[fx.Node]] = {}
        """The values that are needed, in order of execution, with all nodes that have this tensor."""
        self.recomputed: set[fx.Node] = set()
        """The nodes before the section that are repeated in it."""
        self.views: dict[fx.Node, set[fx.Node]] = {}
        """Those of `recomputed` that are views, with all nodes that have this tensor."""
        needed = [*(source for node in self.inside for source in node.all_input_nodes), *outputs]
        self._find_needed(needed)
        while views := self._find_shared_views(chosen):
            self.views |= views
            self._find_needed(needed)

    def place_of(self, node: fx.Node) -> Place:
        """Return the place by which the value of a node before the section is called.

        It is the last operation that wrote to the very tensor, or else the operation, input or attribute that made it.
        """
        same = sorted(self._same[node], key=self.places.order.__getitem__)
        known = [other for other in same if other in self.places.of_node]
        if not known:
            raise TraceError(f"{node.name} is no value of an operation, and is needed after the cut; cut elsewhere")
        attribute = next((other for other in known if other.op == "get_attr"), None)
        writers = [other for other in known if self.memory.writes_to_result(other)]
        return self.places.of_node[attribute or (writers or known[:1])[-1]]

    def _find_needed(self, needed: Sequence[fx.Node]) -> None:
        found: dict[Place, set[fx.Node]] = {}
        self.recomputed.clear()
        waiting = [*needed, *open_blocks(self.before), *(node for node in self.inside if self._is_shared(node))]
        while waiting:
            node = waiting.pop()
            if node not in self._same or node in self.recomputed:
                continue
            if (origin := self._first(self._same[node])) in self.views:
                self.recomputed.add(origin)
                waiting += origin.all_input_nodes
            elif is_recomputed(node, self.places) or (node.op == "get_attr" and not self._is_shared(node)):
                self._check_measure(node)
                self.recomputed.add(node)
                waiting += node.all_input_nodes
            else:
                _check_tensor(node, self.places)
                found.setdefault(self.place_of(node), set()).update(self._same[node])
        first = {place: self.places.order[self._first(nodes)] for place, nodes in found.items()}
        self.inputs = {place: found[place] for place in sorted(found, key=first.__getitem__)}
        self.recomputed.intersection_update(self.before)

    def _find_shared_views(self, chosen: Collection[fx.Node]) -> dict[fx.Node, set[fx.Node]]:
        """Return the inputs that are views of memory which the section writes to, and which another input has too."""
        written = {
            other
            for node in self.inside
            for target in self.memory.written_by(node)
            for other in self.memory.overlapping(target)
        }
        views: dict[fx.Node, set[fx.Node]] = {}
        for place, nodes in self.inputs.items():
            origin = self._first(nodes)
            shared = self.memory.overlapping(origin) & written
            others = (nodes for other, nodes in self.inputs.items() if other != place)
            if nodes.isdisjoint(chosen) and any(map(shared.intersection, others)) and self._is_view(origin, nodes):
                views[origin] = nodes
        return views

    def _is_view(self, node: fx.Node, same: Collection[fx.Node]) -> bool:
        """Whether computing a value once more gives a view with the values that it has where the section begins."""
        if not is_view(node, self.memory) or any(map(changes_shape, same)):
            return False
        later = self.before[self.places.order[node] + 1 :] if may_copy(node) else ()
        return not any(node in self.memory.overlapping(t) for other in later for t in self.memory.written_by(other))

    def _first(self, nodes: Collection[fx.Node]) -> fx.Node:
        return min(nodes, key=self.places.order.__getitem__)

    def _find_same_tensors(self) -> dict[fx.Node, set[fx.Node]]:
        """Return, for each node before the section and each attribute in it, all such nodes with the very same tensor.

        So a node that is not a key is inside of the section.
        """
        nodes = [*self.before, *(node for node in self.inside if node.op == "get_attr")]
        same: dict[fx.Node, set[fx.Node]] = {}
        for node in nodes:
            group = self.memory.same_tensor(node).intersection(nodes)
            same.update(dict.fromkeys(group, group))
        return same

    def _find_shared_attributes(self) -> set[str]:
        """Return the attributes that are used on both sides, and written to on one."""
        sides = (self.before, self.inside)
        used = [self._attributes(argument for node in side for argument in node.all_input_nodes) for side in sides]
        written = [
            self._attributes(target for node in side for target in self.memory.written_by(node)) for side in sides
        ]
        return used[0] & used[1] & (written[0] | written[1])

    def _attributes(self, nodes: Iterable[fx.Node]) -> set[str]:
        """Return the attributes whose memory the values of nodes have, or may have."""
        found = {other for node in set(nodes) for other in self.memory.overlapping(node)}
        return {str(node.target) for node in found if node.op == "get_attr"}

    def _is_shared(self, node: fx.Node) -> bool:
        return node.op == "get_attr" and node.target in self._shared_attributes

    def _check_measure(self, node: fx.Node) -> None:
        """Raise TraceError if a measure was taken of a tensor whose shape was then changed in place."""
        if not is_measure(node):
            return
        measured = {same for source in node.all_input_nodes for same in self._same[source]}
        for other in self.before[self.places.order[node] :]:
            if changes_shape(other) and measured.intersection(self.memory.written_by(other)):
                raise TraceError(
                    f"{node.name} is a size of a tensor that later changes its shape{locate(other)}; cut elsewhere"
                )


def _check_tensor(node: fx.Node, places: Places) -> None:
    """Raise TraceError for a value that is known to be no tensor. An input of the model may be anything."""
    if node.op != "placeholder" and (node_tensors(node) == () or reads_values(node)):
        place = places.of_node.get(node)
        raise TraceError(
            f"the value of {node.name if place is None else place.path}{locate(node)} is no tensor, and what comes "
            "after the cut needs it; cut elsewhere"
        )


def locate(node: fx.Node) -> str:
    """Return the line of a node in the user's code as text: `` (models/unet.py:41)``; empty if it is not known."""
    location = format_location(node_line(node))
    return f" ({location})" if location else ""
