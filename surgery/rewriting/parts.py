"""The graph of a part of a model: a section whose needed values are its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx

from surgery.errors import TraceError
from surgery.graph import (
    InsertedModule,
    SharedMemory,
    add_output,
    clone_tensors,
    empty_graph_like,
    node_tensors,
    structured_output,
)
from surgery.rewriting.places import Place
from surgery.rewriting.recomputation import is_measure
from surgery.rewriting.sections import locate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from surgery.rewriting.sections import Section

CROSSING = "surgery_crossing"
"""The key in the meta data of an input of a part: the `Place` of its value in the whole model."""


class PartBuilder:
    """Makes the graph of a section."""

    def __init__(
        self, model: fx.GraphModule, section: Section, output: Any = None, kept: Collection[fx.Node] = ()
    ) -> None:
        """`output` is what the part returns, a node or a tuple, if the section ends before the output of the graph.

        `kept` are nodes whose values are returned as they were computed, even if something writes to them later.
        """
        self._model = model
        self._section = section
        self._places = section.places
        self._output = output
        self._kept = [node for node in kept if self._is_written_later(node)]
        self._copies: dict[fx.Node, fx.Node] = {}
        self._clones: dict[fx.Node, fx.Node] = {}

    def build(self, inputs: Mapping[Place, str]) -> fx.Graph:
        """Return the graph, with inputs of the given names.

        An input that something writes to, or that a user's module takes and may write to, is copied first, so that a
        run does not change what it is given. Raises TraceError if two inputs share memory that is written to.
        """
        whole = self._places.graph
        graph = fx.Graph() if self._section.before else empty_graph_like(whole)
        placeholders = [self._add_input(graph, place, name) for place, name in inputs.items()]
        for node in self._section.before:
            if node in self._section.recomputed:
                self._copy(graph, node)
                self._copies.update(dict.fromkeys(self._section.views.get(node, ()), self._copies[node]))
        for node in self._section.inside:
            if node.op == "output":
                returned = structured_output(whole, node.args[0]) if self._section.before else node.args[0]
                graph.output(fx.map_arg(returned, self._copies.__getitem__))
            elif node not in self._copies or node.op != "get_attr":
                self._copy(graph, node)
        if self._output is not None:
            add_output(graph, fx.map_arg(self._output, lambda node: self._clones.get(node, self._copies[node])))
        memory = SharedMemory(self._model, graph)
        self._check_shared_memory(memory)
        targets = [target for node in graph.nodes for target in self._may_write_to(node, memory)]
        written = {other for target in targets for other in memory.overlapping(target)}
        for placeholder in placeholders:
            if placeholder in written and not self._is_state(placeholder.meta[CROSSING]):
                _copy_input(graph, placeholder)
        return graph

    def _add_input(self, graph: fx.Graph, place: Place, name: str) -> fx.Node:
        placeholder = graph.create_node("placeholder", name, name=name)
        placeholder.meta[CROSSING] = place
        if (node := self._places.node_at(place)) is not None and (tensors := node_tensors(node)) is not None:
            placeholder.meta["surgery_tensors"] = tensors
        self._copies.update(dict.fromkeys(self._section.inputs.get(place, ()), placeholder))
        return placeholder

    def _may_write_to(self, node: fx.Node, memory: SharedMemory) -> Sequence[fx.Node]:
        if node.op != "call_module":
            return memory.written_by(node)
        module = self._model.get_submodule(str(node.target))
        is_known = type(module).__module__.startswith(("torch.", "einops.")) or isinstance(module, InsertedModule)
        return memory.written_by(node) if is_known else node.all_input_nodes

    def _is_state(self, place: Place) -> bool:
        """Whether an input is a buffer, which is to be written to."""
        return any(node.op == "get_attr" for node in self._section.inputs.get(place, ()))

    def _copy(self, graph: fx.Graph, node: fx.Node) -> None:
        self._copies[node] = copy = graph.node_copy(node, self._copies.__getitem__)
        place = self._places.of_node.get(node)
        if place is not None and "@" in place.path:  # the first of several calls may be in another part
            copy.meta["surgery_path"] = place.path
        if node in self._kept:
            self._clones[node] = graph.call_function(clone_tensors, (copy,))

    def _is_written_later(self, node: fx.Node) -> bool:
        order, memory = self._places.order, self._section.memory
        later = [other for other in self._section.inside if order[other] > order[node]]
        return any(node in memory.overlapping(target) for other in later for target in memory.written_by(other))

    def _check_shared_memory(self, memory: SharedMemory) -> None:
        """Raise TraceError if the part writes to memory that two of its inputs share in the whole model."""
        whole, inside = self._section.memory, self._section.inside
        read = [(position, source) for position, node in enumerate(inside) for source in node.all_input_nodes]
        read += [(len(inside), node) for node in _nodes_in(self._output) if node not in self._clones]
        for position, writer in enumerate(inside):
            for target in whole.written_by(writer):
                shared = {node for node in whole.overlapping(target) if not is_measure(node)}
                seen = memory.overlapping(self._copies[target])
                for later, source in read:
                    if later > position and source in shared and self._copies[source] not in seen:
                        raise TraceError(
                            f"{self._call(target)} and {self._call(source)} share memory, to which "
                            f"{self._call(writer)}{locate(writer)} writes, so they can't be two inputs; cut elsewhere"
                        )

    def _call(self, node: fx.Node) -> str:
        return self._places.of_node[node].path if node in self._places.of_node else node.name


def _nodes_in(value: Any) -> list[fx.Node]:
    nodes: list[fx.Node] = []
    fx.map_arg(value, nodes.append)
    return nodes


def _copy_input(graph: fx.Graph, placeholder: fx.Node) -> None:
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_after(last):
        clone = graph.call_function(clone_tensors, (placeholder,))
    clone.meta = {key: value for key, value in placeholder.meta.items() if key != CROSSING}
    placeholder.replace_all_uses_with(clone, delete_user_cb=lambda user: user is not clone)


def find_crossing(part: fx.GraphModule) -> tuple[Place, ...]:
    """Return the places, in the model that it was cut from, of the values that a part takes as inputs."""
    nodes: Sequence[fx.Node] = part.graph.find_nodes(op="placeholder")
    return tuple(node.meta[CROSSING] for node in nodes if CROSSING in node.meta)
