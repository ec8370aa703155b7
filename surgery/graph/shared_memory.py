"""Which values of a graph have the same memory, as far as the graph tells."""

from __future__ import annotations

from operator import getitem
from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.graph.mutations import called_name, view_base, written_nodes
from surgery.graph.nodes import InsertedModule

if TYPE_CHECKING:
    from collections.abc import Iterator

_VIEWING_MODULES = (nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)  # noqa: SLF001
"""Modules that return a view of their input, or may return it as it is, as dropout does in eval mode."""
_PARTING_FUNCTIONS = {"chunk", "split", "tensor_split", "unbind", "hsplit", "vsplit", "dsplit", "split_with_sizes"}


class SharedMemory:
    """The memory of the values of a graph: which are the same tensor, and which may be views of another one.

    A module that is no module of torch, and is one operation, may return a view of each of its arguments.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        """`root` has the submodules of `graph`."""
        self._root = root
        self._order = {node: place for place, node in enumerate(graph.nodes)}
        self._attributes: dict[str, fx.Node] = {}
        """The last node that reads a parameter or buffer, by its path."""
        self._parents = {node: tuple(self._find_parents(node)) for node in graph.nodes}
        self._children: dict[fx.Node, list[fx.Node]] = {node: [] for node in graph.nodes}
        """Node -> the nodes that have the very tensor."""
        self._groups: dict[fx.Node, set[fx.Node]] = {}
        for node, parents in self._parents.items():
            for parent, is_same in parents:
                self._children[parent] += [node] if is_same else []
            group = {node}.union(*(self._groups[parent] for parent, _ in parents))
            for member in group:
                self._groups[member] = group

    def written_by(self, node: fx.Node) -> tuple[fx.Node, ...]:
        """Return the nodes whose values `node` writes to, without those that they are views of."""
        return tuple(written_nodes(node, self._root))

    def parents(self, node: fx.Node) -> set[fx.Node]:
        """Return the nodes whose memory the value of `node` has, or may have."""
        return {parent for parent, _ in self._parents[node]}

    def writes_to_result(self, node: fx.Node) -> bool:
        """Return whether `node` works in place, and its value is the tensor that it wrote to."""
        return any(is_same and parent in self.written_by(node) for parent, is_same in self._parents[node])

    def same_tensor(self, node: fx.Node) -> set[fx.Node]:
        """Return the nodes up to `node` whose values are the very tensor that is its value, itself included."""
        found: set[fx.Node] = set()
        waiting = [node]
        while waiting:
            found.add(current := waiting.pop())
            near = [parent for parent, is_same in self._parents[current] if is_same]
            near += self._children[current]
            waiting += [other for other in near if other not in found and self._order[other] <= self._order[node]]
        return found

    def overlapping(self, node: fx.Node) -> set[fx.Node]:
        """Return the nodes whose values have, or may have, memory in common with the value of `node`, itself included.

        The parts of a tensor that `chunk` or a similar function returns have none in common.
        """
        return {other for other in self._groups[node] if not self._are_apart(node, other)}

    def _find_parents(self, node: fx.Node) -> Iterator[tuple[fx.Node, bool]]:
        """Yield the nodes whose memory the value of `node` has, or may have, and whether it is the very tensor."""
        written = tuple(written_nodes(node, self._root))
        if node.op == "get_attr":
            if before := self._attributes.get(str(node.target)):
                yield before, True
            self._attributes[str(node.target)] = node
        elif written and not _returns_nothing(node):
            is_same = not isinstance(node.kwargs.get("out"), (tuple, list))  # else the value is a tuple of the tensors
            yield from ((target, is_same) for target in written)
        elif node.op == "call_module":
            yield from self._parents_of_call(node)
        elif (base := view_base(node)) is not None:
            yield base, called_name(node) == "requires_grad_"
        elif called_name(node) == "dropout" and node.kwargs.get("training") is not True:
            yield from ((each, False) for each in node.all_input_nodes[:1])

    def _parents_of_call(self, node: fx.Node) -> Iterator[tuple[fx.Node, bool]]:
        module = self._root.get_submodule(str(node.target))
        inputs = node.all_input_nodes
        if isinstance(module, nn.Identity) or (isinstance(module, InsertedModule) and module.returns_its_input):
            yield from ((each, True) for each in inputs[:1])
        elif isinstance(module, _VIEWING_MODULES):
            yield from ((each, False) for each in inputs[:1])
        elif not type(module).__module__.startswith("torch.") and not isinstance(module, InsertedModule):
            yield from ((each, False) for each in inputs)

    def _are_apart(self, left: fx.Node, right: fx.Node) -> bool:
        """Return whether two nodes are, or are views of, different parts of one tensor."""
        parts = dict(self._parts_above(left))
        return any(parts.get(parent, key) != key for parent, key in self._parts_above(right))

    def _parts_above(self, node: fx.Node) -> Iterator[tuple[fx.Node, object]]:
        """Yield each call that parts a tensor above `node`, with the index of the part that `node` comes from."""
        waiting = [node]
        while waiting:
            current = waiting.pop()
            for parent, _ in self._parents[current]:
                if current.target is getitem and called_name(parent) in _PARTING_FUNCTIONS:
                    yield parent, current.args[1]
                waiting.append(parent)


def _returns_nothing(node: fx.Node) -> bool:
    return called_name(node) in ("setitem", "set_attribute")
