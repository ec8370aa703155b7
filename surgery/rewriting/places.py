"""Where the values of a graph are: of operations, inputs, parameters and buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from surgery.errors import TraceError
from surgery.graph import is_extractor, operation_groups

if TYPE_CHECKING:
    from torch import fx

    from surgery.graph import OperationGroup


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a model, by what computes or has it."""

    kind: Literal["operation", "input", "attribute"]
    path: str
    """The path of an operation, parameter or buffer, or the name of an input."""
    part: int = 0
    """Which of the operation's values, if a graph of `torch.export` has several."""


class Places:
    """The nodes of one graph of a model, in order of execution, with their places."""

    def __init__(self, model: fx.GraphModule, graph: fx.Graph) -> None:
        self.graph = graph
        self.nodes = list(graph.nodes)
        self.order = {node: position for position, node in enumerate(self.nodes)}
        self._groups: dict[str, OperationGroup] = {}
        self.of_node: dict[fx.Node, Place] = {}
        self._nodes: dict[Place, fx.Node] = {}
        self._model = model
        for node in self.nodes:
            if node.op in ("placeholder", "get_attr"):
                self._add(node, Place("input" if node.op == "placeholder" else "attribute", str(node.target)))
        for group in operation_groups(model, graph):
            self._groups[group.operation.path] = group
            for part, node in enumerate(group.values):
                self._add(node, Place("operation", group.operation.path, part))

    def node_at(self, place: Place) -> fx.Node | None:
        """Return the node of a place, the first one of an attribute; None if the graph has no such place."""
        return self._nodes.get(place)

    def group(self, path: str) -> OperationGroup:
        """Return the nodes of an operation. Raises TraceError if the graph does not have it."""
        if path not in self._groups:
            raise TraceError(f"the graph has no operation {path!r}, at which it is to be cut")
        return self._groups[path]

    def count_up_to(self, path: str) -> int:
        """Return the number of nodes up to the end of an operation, and the extractors after it."""
        position = self.order[self.group(path).nodes[-1]] + 1
        while position < len(self.nodes) and self._passes_on(self.nodes[position]):
            position += 1
        return position

    def _passes_on(self, node: fx.Node) -> bool:
        """Whether a node is an extractor, or makes the tuple for one."""
        makes_tuple = node.target is tuple and bool(node.users)
        return is_extractor(self._model, node) or (
            makes_tuple and all(is_extractor(self._model, u) for u in node.users)
        )

    def _add(self, node: fx.Node, place: Place) -> None:
        self.of_node[node] = place
        self._nodes.setdefault(place, node)
