"""From a traced graph to a rewritten copy with extractors in it."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from torch import fx, nn

from surgery.errors import SelectionError
from surgery.graph import (
    add_output,
    build_traced_module,
    clone_tensors,
    copy_sharing_parameters,
    empty_graph_like,
    explain_input_checks,
    is_extractor,
    map_graphs,
    not_traced,
    operation_groups,
    operations,
    structured_output,
    without_graph,
)
from surgery.rewriting.extractor import ActivationExtractor
from surgery.rewriting.selection import Selection, select
from surgery.types import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

META_OF_CALLS = ("nn_module_stack", "torch_fn")
_EXTRACTORS = "extractors"
"""The submodule of a rewritten model that has its extractors, with an underscore added if the model has this name."""


T = TypeVar("T", bound=nn.Module)
Chosen: TypeAlias = "Selection | str | Operation | Sequence[Operation]"
"""Operations of a traced model, or a selection of them."""


def insert(traced: T, chosen: Sequence[Operation]) -> T:
    """Return a copy of `traced` with an ActivationExtractor after each chosen operation, before all of its users.

    The copy has the same `state_dict` keys. It shares the parameters until it is moved or converted (`to`, `half`), and
    has its own modules, modes and buffers. In the graph of the other mode, the operations of the same paths are chosen.
    `traced` is what `surgery.trace` returned, or any graph module.

    An observed model may run operations that the run of the example did not have. Those that match the selection by
    which `surgery.select` chose `chosen` are extracted too.

    Raises SelectionError for an operation that `traced` does not have.
    """
    check_chosen(traced, chosen, "insert")
    return insert_extractors(traced, chosen)  # type: ignore[no-any-return]


def check_chosen(traced: nn.Module, chosen: Sequence[Operation], taker: str) -> None:
    """Raise SelectionError unless `chosen` are operations of a traced model. `taker` is what takes them."""
    if not isinstance(chosen, (list, tuple)) or not all(isinstance(each, Operation) for each in chosen):
        raise SelectionError(
            f"{taker} takes a list of operations, as surgery.select and surgery.operations return them"
        )
    if absent := {operation.path for operation in chosen} - {operation.path for operation in operations(traced)}:
        raise SelectionError(f"the model has no operation {min(absent)!r}; select from this model's operations")


def resolve_chosen(traced: nn.Module, chosen: Chosen, taker: str) -> Sequence[Operation]:
    """Return the operations of a traced model that a selection matches, or that are given, in any order.

    `taker` is what takes them. Raises SelectionError if there is none, and for an operation that the model lacks.
    """
    if isinstance(chosen, (str, Selection)):
        return select(traced, chosen)
    operations_ = (chosen,) if isinstance(chosen, Operation) else chosen
    check_chosen(traced, operations_, taker)
    if not operations_:
        raise SelectionError(f"{taker} takes at least one operation")
    return operations_


@singledispatch
def insert_extractors(traced: object, chosen: Sequence[Operation]) -> Any:  # noqa: ARG001
    """Return a copy of a traced model with extractors after operations that it has."""
    raise not_traced(traced)


@insert_extractors.register(fx.GraphModule)
def _(traced: fx.GraphModule, chosen: Sequence[Operation]) -> fx.GraphModule:
    owner = copy_sharing_parameters(without_graph(traced))
    home = free_name(owner, _EXTRACTORS)
    extractors = nn.Module()
    paths = {operation.path for operation in chosen}

    def add_extractors(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        groups = operation_groups(traced, original)
        ends = {group.nodes[-1]: group for group in groups if group.operation.path in paths}
        copies: dict[fx.Node, fx.Node] = {}
        for node in original.nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if group := ends.get(node):
                name = free_name(extractors, group.node.name)  # the graph of the other mode may use this name
                extractors.add_module(name, ActivationExtractor(group.operation))
                values = [copies[value] for value in group.values]
                computed = values[0] if len(values) == 1 else graph.call_function(tuple, (values,))
                extractor = graph.create_node("call_module", f"{home}.{name}", (computed,))
                extractor.meta = {key: value for key, value in group.node.meta.items() if key not in META_OF_CALLS}
                if len(values) == 1:
                    copies[group.node] = extractor
        return graph

    owner.add_module(home, extractors)
    explain_input_checks(owner)
    graphs = map_graphs(traced, add_extractors)
    extractors.train(owner.training)
    return build_traced_module(owner, graphs, type(traced).__name__, traced)


@singledispatch
def stop_after_last_extractor(rewritten: object) -> Any:
    """Return a copy of a rewritten model that stops after its last extractor and returns None.

    All operations before it are kept, used or not, since they may write in place or to a buffer.
    """
    raise not_traced(rewritten)


@stop_after_last_extractor.register(fx.GraphModule)
def _(rewritten: fx.GraphModule) -> fx.GraphModule:

    def cut(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        nodes = list(original.nodes)
        copies: dict[fx.Node, fx.Node] = {}
        last = max((position for position, node in enumerate(nodes) if is_extractor(rewritten, node)), default=-1)
        for position, node in enumerate(nodes):
            if position <= last or node.op == "placeholder":
                copies[node] = graph.node_copy(node, copies.__getitem__)
        add_output(graph, None)
        return graph

    return _with_graphs(rewritten, cut)


@singledispatch
def as_outputs(opened: object) -> fx.GraphModule:
    """Return a copy of a rewritten model that returns its output and the values that its extractors receive.

    The result is ``(output, {"down1.conv": tensor, ...})``. If an operation computes a nest of tuples, lists and
    mappings, that nest stands under its path. The values are copied as soon as they are computed. Whatever keeps the
    outputs of a model also keeps the activations: `torch.export`, `torch.jit`, ONNX.

    Raises TraceError for an observed model, which has no graph.
    """
    raise not_traced(opened)


@as_outputs.register(fx.GraphModule)
def _(opened: fx.GraphModule) -> fx.GraphModule:

    def add_outputs(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        copies: dict[fx.Node, fx.Node] = {}
        values: dict[str, fx.Node] = {}
        for node in original.nodes:
            if node.op == "output":
                output = fx.map_arg(node.args[0], copies.__getitem__)
                add_output(graph, (structured_output(graph, output), values))
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


def free_name(owner: nn.Module, name: str) -> str:
    """Return a name that a module has no attribute of: `name`, with underscores added if it has one."""
    while hasattr(owner, name):
        name += "_"
    return name
