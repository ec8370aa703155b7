"""Values that a model stores for its next run and that are the same in each run, such as a table of biases by device.

They are in an attribute or a dict. A graph can't store them, and computes them in each run.
"""

from __future__ import annotations

from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any

from torch import fx, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


def find_kept_constants(
    root: nn.Module, graph: fx.Graph, written: Collection[fx.Node]
) -> Iterator[tuple[Any, Any, fx.Node]]:
    """Yield the values that a trace of `root` has stored, if they are parameters, buffers or indexed from these.

    Each is given by its container, its key or index there, and its node. The search covers the attributes of all
    modules, and the items of lists and dicts among them. `written` are the nodes whose values an operation changes.
    """
    attributes = [vars(module) for module in root.modules()]
    nested = [value for names in attributes for value in names.values() if type(value) in (dict, list)]
    for container in (*attributes, *nested):
        for key, value in list(container.items() if isinstance(container, dict) else enumerate(container)):
            # An attribute of a proxy that was never used has no node yet; reading `node` would create one.
            names = vars(value) if issubclass(type(value), fx.Proxy) else {}
            node = names.get("node") or names.get("_node")
            if node is not None and node.graph is graph and _is_constant(node, written):
                yield container, key, node


def copy_constant(node: fx.Node, tracer: fx.Tracer) -> fx.Proxy:
    """Record a constant of another trace in a tracer."""
    copy_source: Callable[[fx.Node], Any] = partial(copy_constant, tracer=tracer)
    args, kwargs = fx.map_arg((node.args, node.kwargs), copy_source)
    return tracer.create_proxy(node.op, node.target, args, kwargs)


def list_steps(graph: fx.Graph, written: Collection[fx.Node]) -> dict[fx.Node, tuple[str, Any, str]]:
    """Return the steps of a trace by their nodes, for a comparison with another trace.

    Constants are not steps. They are written out where they are used, since two traces may read them at different
    places.
    """
    steps: dict[fx.Node, tuple[str, Any, str]] = {}
    names: dict[fx.Node, str] = {}
    for node in graph.nodes:
        arguments = repr(fx.map_arg((node.args, node.kwargs), lambda source: names.get(source, "of the run before")))
        if _is_constant(node, written):
            names[node] = f"{node.op} {node.target} {arguments}"
        else:
            names[node] = f"step {len(steps)}"
            steps[node] = (node.op, node.target, arguments)
    return steps


def _is_constant(node: fx.Node, written: Collection[fx.Node]) -> bool:
    """Return whether a value is the same in each run if the parameters and buffers stay the same."""
    sources = node.all_input_nodes
    is_read = node.op == "get_attr" or (node.target is getitem and all(_is_constant(n, written) for n in sources))
    return is_read and node not in written
