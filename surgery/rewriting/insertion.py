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
    from collections.abc import Sequence


_HOME = "extractors"


def insert(traced: fx.GraphModule, chosen: Sequence[Operation]) -> fx.GraphModule:
    """A copy of `traced` with an ActivationExtractor after each chosen operation, between it and all its users.

    Where the model takes another way in the other mode, the operations of the same paths are chosen there.

    The copy shares the parameters until it is moved or converted (`to`, `half`); its modules, modes and buffers are its
    own, and it has the same `state_dict` keys. Any graph module will do. Raises SelectionError for an operation that
    is not in the graph.
    """
    check_graph(traced)
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(each, Operation) for each in chosen):
        raise SelectionError("operations are inserted behind, as surgery.select and surgery.operations give them")
    owner = copy_sharing_parameters(without_graph(traced))
    home = _free_name(owner, _HOME)
    inserted = nn.Module()
    paths = {operation.path for operation in chosen}
    if absent := paths - {operation.path for _, operation in operation_nodes(traced)}:
        raise SelectionError(f"the graph has no operation {min(absent)!r}; select from this graph's operations")

    def rewrite(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        known = {node: operation for node, operation in operation_nodes(traced, original) if operation.path in paths}
        passed: dict[fx.Node, fx.Node] = {}
        for node in original.nodes:
            computed = graph.node_copy(node, passed.__getitem__)
            passed[node] = computed
            if operation := known.get(node):
                name = _free_name(inserted, node.name)  # the other mode's graph may have taken it
                inserted.add_module(name, ActivationExtractor(operation))
                passed[node] = graph.create_node("call_module", f"{home}.{name}", (computed,))
                passed[node].meta = {key: value for key, value in computed.meta.items() if key != "nn_module_stack"}
        return graph

    owner.add_module(home, inserted)
    return build_traced_module(owner, map_graphs(traced, rewrite), type(traced).__name__, traced)


def stop_after_last_extractor(opened: fx.GraphModule) -> fx.GraphModule:
    """A copy of a rewritten model that stops after its last extractor and returns None.

    All that runs before is kept, whether its result is used or not: it may write in place, or to a buffer.
    """

    def cut(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        nodes = list(original.nodes)
        copies: dict[fx.Node, fx.Node] = {}
        last = max((place for place, node in enumerate(nodes) if is_extractor(opened, node)), default=-1)
        for place, node in enumerate(nodes):
            if place <= last or node.op == "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(None)
        return graph

    return build_traced_module(
        copy_sharing_parameters(without_graph(opened)), map_graphs(opened, cut), type(opened).__name__, opened
    )


def as_outputs(opened: fx.GraphModule) -> fx.GraphModule:
    """A copy of a rewritten model that returns its output and, by path, what its extractors saw.

    The output is ``(output, {"down1.conv": tensor, ...})``; of an operation whose value is a nest of tuples, lists and
    mappings, that nest. The values are copies, made the moment they are computed. So they are kept by whatever keeps
    the outputs of a model: `torch.export`, `torch.jit`, ONNX.
    """
    check_graph(opened)

    def gather(original: fx.Graph) -> fx.Graph:
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

    return build_traced_module(
        copy_sharing_parameters(without_graph(opened)), map_graphs(opened, gather), type(opened).__name__, opened
    )


def _free_name(owner: nn.Module, name: str) -> str:
    while hasattr(owner, name):
        name += "_"
    return name
