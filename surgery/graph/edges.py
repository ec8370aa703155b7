"""The edges of a graph: the operands of each operation, and the values in the output."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Literal

from torch import fx

from surgery.graph.exported import node_tensors
from surgery.graph.nodes import operation_groups
from surgery.graph.trace_info import not_traced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.types import Operation, TensorSpec


@dataclass(frozen=True, slots=True)
class ValueSource:
    """An operation, an input, or a parameter or buffer that provides a value."""

    path: str
    """The path of an operation, parameter or buffer, or the name of an input."""
    kind: Literal["operation", "input", "attribute"]
    tensors: tuple[TensorSpec, ...] | None
    """The tensors in the value; None before an example has run."""


@dataclass(frozen=True, slots=True)
class Edges:
    """The sources of all values in a graph. An extractor counts as the operation before it."""

    inputs: tuple[ValueSource, ...]
    """The inputs of the graph, in order."""
    operands: Mapping[str, tuple[ValueSource, ...]]
    """Name of an operation -> the sources of its arguments, in order, without repetition."""
    output: tuple[ValueSource, ...]
    """The sources of the output."""


@singledispatch
def find_edges(traced: object) -> Edges:
    """Return the edges of a traced or rewritten model. Raises TraceError for anything else."""
    raise not_traced(traced)


@find_edges.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> Edges:
    groups = {node: group for group in operation_groups(traced) for node in group.nodes}
    values: dict[fx.Node, tuple[ValueSource, ...]] = {}
    inputs: list[ValueSource] = []
    operands: dict[str, tuple[ValueSource, ...]] = {}
    output: tuple[ValueSource, ...] = ()
    for node in traced.graph.nodes:
        sources = tuple(dict.fromkeys(source for argument in node.all_input_nodes for source in values[argument]))
        if node.op == "placeholder":
            inputs.append(ValueSource(str(node.target), "input", node_tensors(node)))
            values[node] = (inputs[-1],)
        elif node.op == "get_attr":
            values[node] = (ValueSource(str(node.target), "attribute", node_tensors(node)),)
        elif group := groups.get(node):
            operation = group.operation
            itself = ValueSource(operation.path, "operation", operation.tensors)
            outside = [source for source in sources if source != itself and not _is_own(source, operation)]
            operands[operation.name] = tuple(dict.fromkeys([*operands.get(operation.name, ()), *outside]))
            values[node] = (itself,)
        else:
            values[node] = output = sources  # an extractor or a container of values; the last node is the output
    return Edges(tuple(inputs), operands, output)


def _is_own(source: ValueSource, operation: Operation) -> bool:
    """Whether a value is a parameter or buffer of the leaf module that an operation of an exported graph calls."""
    path = operation.path.partition("@")[0]
    return source.kind == "attribute" and path in operation.scopes and source.path.startswith(f"{path}.")
