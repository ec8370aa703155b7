"""The edges of a graph: the operands of each operation, and the values in the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from surgery.graph.nodes import operation_nodes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import fx

    from surgery.types import TensorSpec


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


def find_edges(graph_module: fx.GraphModule) -> Edges:
    """Return the edges of a traced or rewritten model."""
    operations = dict(operation_nodes(graph_module))
    values: dict[fx.Node, tuple[ValueSource, ...]] = {}
    inputs: list[ValueSource] = []
    operands: dict[str, tuple[ValueSource, ...]] = {}
    output: tuple[ValueSource, ...] = ()
    for node in graph_module.graph.nodes:
        sources = tuple(dict.fromkeys(source for argument in node.all_input_nodes for source in values[argument]))
        tensors = node.meta.get("surgery_tensors")
        if node.op == "placeholder":
            inputs.append(ValueSource(str(node.target), "input", tensors))
            values[node] = (inputs[-1],)
        elif node.op == "get_attr":
            values[node] = (ValueSource(str(node.target), "attribute", tensors),)
        elif node in operations:
            operands[node.name] = sources
            values[node] = (ValueSource(operations[node].path, "operation", tensors),)
        else:
            values[node] = output = sources  # an extractor or a container of values; the last node is the output
    return Edges(tuple(inputs), operands, output)
