"""From a traced graph to a rewritten copy with extractors in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.errors import SelectionError
from surgery.extractor import ActivationExtractor
from surgery.graphs import assemble, empty_like, shell
from surgery.nodes import is_extractor, operation_nodes
from surgery.twins import twin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.types import Operation

_HOME = "extractors"


def insert(traced: fx.GraphModule, chosen: Sequence[Operation]) -> fx.GraphModule:
    """A copy of `traced` with an ActivationExtractor after each chosen operation, between it and all its users.

    The copy shares the parameters until it is moved or converted (`to`, `half`); its modules, modes and buffers are its
    own, and it has the same `state_dict` keys. Any graph module will do. Raises SelectionError for an operation that
    is not in the graph.
    """
    owner = twin(shell(traced))
    home = _free_name(owner, _HOME)
    inserted = nn.Module()
    graph = empty_like(traced.graph)
    paths = {operation.path for operation in chosen}
    known = {node: operation for node, operation in operation_nodes(traced) if operation.path in paths}
    if absent := paths - {operation.path for operation in known.values()}:
        raise SelectionError(f"the graph has no operation {min(absent)!r}; select from this graph's operations")
    passed: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        computed = graph.node_copy(node, passed.__getitem__)
        passed[node] = computed
        if operation := known.get(node):
            inserted.add_module(node.name, ActivationExtractor(operation))
            passed[node] = graph.create_node("call_module", f"{home}.{node.name}", (computed,))
            passed[node].meta = {key: value for key, value in computed.meta.items() if key != "nn_module_stack"}
    owner.add_module(home, inserted)
    return assemble(owner, graph, type(traced).__name__)


def until_last(opened: fx.GraphModule) -> fx.GraphModule:
    """A copy of a rewritten model that stops after its last extractor and returns None.

    All that runs before is kept, whether its result is used or not: it may write in place, or to a buffer.
    """
    owner = twin(shell(opened))
    graph = empty_like(opened.graph)
    nodes = list(opened.graph.nodes)
    copies: dict[fx.Node, fx.Node] = {}
    last = max(
        (place for place, node in enumerate(nodes) if is_extractor(opened, node)),
        default=-1,
    )
    for place, node in enumerate(nodes):
        if place <= last or node.op == "placeholder":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(None)
    return assemble(owner, graph, type(opened).__name__)


def _free_name(owner: nn.Module, name: str) -> str:
    while hasattr(owner, name):
        name += "_"
    return name
