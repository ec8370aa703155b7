"""The operations of a graph: their nodes, paths and kinds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, is_dataclass
from functools import singledispatch
from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from surgery.graph import autograd_functions as functions
from surgery.graph.exported import (
    call_key,
    call_values,
    computes_no_tensor,
    is_exported,
    is_input_check,
    leaf_call,
    node_line,
    node_tensors,
    value_tensors,
)
from surgery.graph.kinds import exported_kind, target_name
from surgery.graph.listings import Operations
from surgery.graph.source_lines import format_location
from surgery.graph.tensors import clone_tensors
from surgery.graph.trace_info import not_traced
from surgery.types import Operation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from surgery.types import TensorSpec


@singledispatch
def operations(traced: object) -> Operations:
    """Return the operations of a traced model in order of execution: its calls of modules, functions and methods.

    `traced` is what `surgery.trace` or `surgery.insert` returned, or any `torch.fx.GraphModule`. Inserted extractors
    are not operations. Shapes are known if `trace` was given an example. The operations of an observed model are those
    of the run of the example. Raises TraceError for anything that is not a traced model.
    """
    raise not_traced(traced)


@operations.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> Operations:
    return Operations(operation for _, operation in operation_nodes(traced))


@singledispatch
def input_names(traced: object) -> tuple[str, ...]:
    """Return the names of the inputs of a traced model, in order. Raises TraceError for anything else."""
    raise not_traced(traced)


@input_names.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> tuple[str, ...]:
    structure = getattr(traced.graph._codegen, "pytree_info", None)  # noqa: SLF001 - torch.export flattens inputs
    return tuple(
        structure.orig_args if structure else (str(n.target) for n in traced.graph.find_nodes(op="placeholder"))
    )


@singledispatch
def call_arguments(traced: object, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:  # noqa: ARG001
    """Return the positional and the keyword arguments with which a traced model is called for inputs by name."""
    raise not_traced(traced)


@call_arguments.register(fx.GraphModule)
def _(traced: fx.GraphModule, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(values[name] for name in input_names(traced)), {}


def check_graph(graph_module: object) -> None:
    """Raise TraceError unless `graph_module` is a graph module."""
    if not isinstance(graph_module, fx.GraphModule):
        raise not_traced(graph_module)


@dataclass(frozen=True, slots=True)
class OperationGroup:
    """The nodes of one operation: a single one, except in a graph that `torch.export` has made."""

    operation: Operation
    nodes: tuple[fx.Node, ...]
    """In order of execution, without other operations between them."""
    values: tuple[fx.Node, ...]
    """The nodes with its value: one, or several whose values form a tuple. There is none for ``x[0] = 1``."""

    @property
    def node(self) -> fx.Node:
        """The node with its value, the first one if there are several. The operation has its name."""
        return self.values[0] if self.values else self.nodes[-1]


def operation_nodes(graph_module: fx.GraphModule, graph: fx.Graph | None = None) -> Iterator[tuple[fx.Node, Operation]]:
    """Yield the node of each operation with the operation, in the current graph of `graph_module` or in `graph`."""
    for group in operation_groups(graph_module, graph):
        yield group.node, group.operation


def operation_groups(graph_module: fx.GraphModule, graph: fx.Graph | None = None) -> Iterator[OperationGroup]:
    """Yield the nodes of each operation, in the current graph of `graph_module` or in `graph`."""
    check_graph(graph_module)
    seen: Counter[str] = Counter()
    computing = (node for node in (graph or graph_module.graph).nodes if _is_part_of_operation(graph_module, node))
    index = 0
    for _, group in groupby(computing, _call_key):
        nodes = tuple(group)
        inserted = inserted_module(graph_module, nodes[0])
        if isinstance(inserted, InsertedOperation):
            yield OperationGroup(inserted.operation, nodes, nodes)
            continue
        index += 1
        values = call_values(nodes) if is_exported(nodes[0]) else nodes
        path, kind, scopes = _address(graph_module, nodes[0])
        repeats = seen[path]
        seen[path] += 1
        default = f"{path}@{repeats}" if repeats else path
        operation = Operation(
            name=(values or nodes[-1:])[0].name,
            path=nodes[0].meta.get("surgery_path", default),
            kind=kind,
            index=index,
            scopes=scopes,
            source=format_location(node_line(nodes[0])),
            tensors=_tensors(values),
        )
        yield OperationGroup(operation, nodes, values)


def _is_part_of_operation(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    if not node.op.startswith("call_") or computes_nothing(node.target):
        return False
    if node.op == "call_module":
        module = graph_module.get_submodule(str(node.target))
        is_operation = isinstance(module, InsertedOperation) or not isinstance(module, InsertedModule)
        return is_operation and not is_input_check(module)
    return not (is_exported(node) and computes_no_tensor(node))


def _call_key(node: fx.Node) -> object:
    return call_key(node) if is_exported(node) else node


def _address(graph_module: fx.GraphModule, node: fx.Node) -> tuple[str, str, tuple[str, ...]]:
    """Return the path (without ``@n``), the kind and the scopes of the operation that a node belongs to."""
    scopes = tuple(name for name, _ in node.meta.get("nn_module_stack", {}).values() if name)
    if node.op == "call_module":
        path = str(node.target)
        kind = type(graph_module.get_submodule(path)).__name__.lower()
        return path, kind, scopes if path in scopes else (*scopes, path)
    if is_exported(node) and (leaf := leaf_call(node)):
        _, path, class_name = leaf
        return path, class_name.lower(), scopes[: scopes.index(path) + 1]
    kind = exported_kind(node) if is_exported(node) else target_name(node)
    return f"{scopes[-1]}.{kind}" if scopes else kind, kind, scopes


def _tensors(values: tuple[fx.Node, ...]) -> tuple[TensorSpec, ...] | None:
    """Return the tensors in the value of an operation."""
    if len(values) == 1:
        return node_tensors(values[0])
    return value_tensors(tuple(node.meta.get("val") for node in values))


def computes_nothing(target: object) -> bool:
    """Whether a target checks a setting, copies a value, or is a class that only holds values: a named output."""
    return target in (functions.check_setting, clone_tensors) or (
        isinstance(target, type) and (issubclass(target, (dict, tuple)) or is_dataclass(target))
    )


def inserted_module(graph_module: fx.GraphModule, node: fx.Node) -> InsertedModule | None:
    """Return the inserted module that a node of the graph calls, such as an ActivationExtractor; else None."""
    module = graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, InsertedModule) else None


def is_extractor(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node of the graph calls an ActivationExtractor, which passes on the value of an operation."""
    module = inserted_module(graph_module, node)
    return module is not None and module.returns_its_input


class InsertedModule(nn.Module):
    """The base class of modules that are inserted into a graph, and are not operations of the model."""

    returns_its_input = True
    """Whether it returns the very object that it is given."""


class InsertedOperation(InsertedModule):
    """The base class of inserted modules that compute another value, which is an operation of the rewritten model."""

    returns_its_input = False

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        """It has the index of the operation that it comes after."""
