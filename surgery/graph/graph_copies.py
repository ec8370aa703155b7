"""Copies of graphs, and whether two graphs are the same."""

from __future__ import annotations

from typing import Any

from torch import fx


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
