"""From a traced graph to a rewritten copy with extractors in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import fx, nn

from surgery.errors import SelectionError
from surgery.graph import (
    build_traced_module,
    check_graph,
    clone_tensors,
    copy_sharing_parameters,
    empty_graph_like,
    is_extractor,
    map_graphs,
    operation_nodes,
    without_graph,
)
from surgery.rewriting.extractor import ActivationExtractor
from surgery.types import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXTRACTORS = "extractors"
"""The submodule of a rewritten model that has its extractors, with an underscore added if the model has this name."""


def insert(traced: fx.GraphModule, chosen: Sequence[Operation]) -> fx.GraphModule:
    """Return a copy of `traced` with an ActivationExtractor after each chosen operation, before all of its users.

    The copy has the same `state_dict` keys. It shares the parameters until it is moved or converted (`to`, `half`), and
    has its own modules, modes and buffers. In the graph of the other mode, the operations of the same paths are chosen.
    `traced` can be any graph module. Raises SelectionError for an operation that is not in the graph.
    """
    check_graph(traced)
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(each, Operation) for each in chosen):
        raise SelectionError("insert takes a list of operations, as surgery.select and surgery.operations return them")
    owner = copy_sharing_parameters(without_graph(traced))
    home = _free_name(owner, _EXTRACTORS)
    extractors = nn.Module()
    paths = {operation.path for operation in chosen}
    if absent := paths - {operation.path for _, operation in operation_nodes(traced)}:
        raise SelectionError(f"the graph has no operation {min(absent)!r}; select from this graph's operations")

    def add_extractors(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        chosen_nodes = {node: each for node, each in operation_nodes(traced, original) if each.path in paths}
        copies: dict[fx.Node, fx.Node] = {}
        for node in original.nodes:
            computed = copies[node] = graph.node_copy(node, copies.__getitem__)
            if operation := chosen_nodes.get(node):
                name = _free_name(extractors, node.name)  # the graph of the other mode may use this name
                extractors.add_module(name, ActivationExtractor(operation))
                copies[node] = graph.create_node("call_module", f"{home}.{name}", (computed,))
                copies[node].meta = {key: value for key, value in computed.meta.items() if key != "nn_module_stack"}
        return graph

    owner.add_module(home, extractors)
    return build_traced_module(owner, map_graphs(traced, add_extractors), type(traced).__name__, traced)


def stop_after_last_extractor(rewritten: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a rewritten model that stops after its last extractor and returns None.

    All operations before it are kept, used or not, since they may write in place or to a buffer.
    """

    def cut(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        nodes = list(original.nodes)
        copies: dict[fx.Node, fx.Node] = {}
        last = max((position for position, node in enumerate(nodes) if is_extractor(rewritten, node)), default=-1)
        for position, node in enumerate(nodes):
            if position <= last or node.op == "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(None)
        return graph

    return _with_graphs(rewritten, cut)


def as_outputs(opened: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a rewritten model that returns its output and the values that its extractors receive.

    The result is ``(output, {"down1.conv": tensor, ...})``. If an operation computes a nest of tuples, lists and
    mappings, that nest stands under its path. The values are copied as soon as they are computed. Whatever keeps the
    outputs of a model also keeps the activations: `torch.export`, `torch.jit`, ONNX.
    """
    check_graph(opened)

    def add_outputs(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        copies: dict[fx.Node, fx.Node] = {}
        values: dict[str, fx.Node] = {}
        for node in original.nodes:
            if node.op == "output":
                graph.output((fx.map_arg(node.args[0], copies.__getitem__), values))
            elif is_extractor(opened, node):
                extractor = cast("ActivationExtractor", opened.get_submodule(str(node.target)))
                copies[node] = copies[cast("fx.Node", node.args[0])]
                values[extractor.operation.path] = graph.call_function(clone_tensors, (copies[node],))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        return graph

    return _with_graphs(opened, add_outputs)


def _with_graphs(model: fx.GraphModule, change: Callable[[fx.Graph], fx.Graph]) -> fx.GraphModule:
    """Return a copy of a model that shares its parameters and has changed graphs."""
    owner = copy_sharing_parameters(without_graph(model))
    return build_traced_module(owner, map_graphs(model, change), type(model).__name__, model)


def _free_name(owner: nn.Module, name: str) -> str:
    while hasattr(owner, name):
        name += "_"
    return name
