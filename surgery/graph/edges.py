"""The edges of a graph: what each operation takes, and what the output is made of."""

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
    """Where a value comes from."""

    path: str
    """Of an operation, of a parameter or buffer; the name of an input."""
    kind: Literal["operation", "input", "attribute"]
    tensors: tuple[TensorSpec, ...] | None
    """What it is; None where no example has run."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the values in a graph come from. Extractors are looked through."""

    inputs: tuple[ValueSource, ...]
    """The inputs of the graph, in order."""
    operands: Mapping[str, tuple[ValueSource, ...]]
    """Name of an operation -> what it takes, each once, in order of its arguments."""
    output: tuple[ValueSource, ...]
    """What the output is made of."""


def find_edges(graph_module: fx.GraphModule) -> Edges:
    """The edges of a graph, rewritten or not."""
    operations = dict(operation_nodes(graph_module))
    values: dict[fx.Node, tuple[ValueSource, ...]] = {}
    inputs: list[ValueSource] = []
    operands: dict[str, tuple[ValueSource, ...]] = {}
    output: tuple[ValueSource, ...] = ()
    for node in graph_module.graph.nodes:
        taken = tuple(dict.fromkeys(source for given in node.all_input_nodes for source in values[given]))
        tensors = node.meta.get("surgery_tensors")
        if node.op == "placeholder":
            inputs.append(ValueSource(str(node.target), "input", tensors))
            values[node] = (inputs[-1],)
        elif node.op == "get_attr":
            values[node] = (ValueSource(str(node.target), "attribute", tensors),)
        elif node in operations:
            operands[node.name] = taken
            values[node] = (ValueSource(operations[node].path, "operation", tensors),)
        else:
            values[node] = output = taken  # an extractor, or what only holds values; the last is the output
    return Edges(tuple(inputs), operands, output)
