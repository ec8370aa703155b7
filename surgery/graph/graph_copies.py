"""Copies of graphs, and whether two graphs are the same."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.fx.graph import _PyTreeCodeGen
from torch.utils import _pytree as pytree


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """Return a copy of a graph whose nodes have the same names and meta data."""
    result = empty_graph_like(graph)
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copies[node] = result.node_copy(node, copies.__getitem__)
    return result


def empty_graph_like(graph: fx.Graph) -> fx.Graph:
    """Return a graph without nodes that generates code in the same way as `graph`."""
    result = fx.Graph()
    result.set_codegen(graph._codegen)  # noqa: SLF001
    return result


def add_output(graph: fx.Graph, output: Any) -> None:
    """End a graph with an output. In a graph of `torch.export`, it replaces the structure of the former output."""
    codegen = graph._codegen  # noqa: SLF001
    if isinstance(codegen, _PyTreeCodeGen):
        output, structure = pytree.tree_flatten(output)
        graph.set_codegen(_PyTreeCodeGen(codegen.pytree_info._replace(out_spec=structure)))
    graph.output(output)


def structured_output(graph: fx.Graph, output: Any) -> Any:
    """Return the argument of an output node as the graph returns it; `torch.export` keeps its structure apart."""
    return graph._codegen.process_outputs(output)  # noqa: SLF001


def is_same_graph(one: fx.Graph, other: fx.Graph) -> bool:
    """Whether two graphs call the same targets with the same arguments in the same order."""
    if len(one.nodes) != len(other.nodes):
        return False
    counterparts: dict[fx.Node, fx.Node] = {}
    for left, right in zip(one.nodes, other.nodes, strict=True):
        counterparts[left] = right
        arguments = fx.map_arg((left.args, left.kwargs), counterparts.__getitem__)
        if (left.op, left.target) != (right.op, right.target):
            return False
        if not _same_constants(arguments, (right.args, right.kwargs)):
            return False
    return True


def _same_constants(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # by text, since True == 1 == 1.0
