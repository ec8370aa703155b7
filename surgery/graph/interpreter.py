"""Running a graph node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx
from torch.fx.immutable_collections import immutable_dict, immutable_list

if TYPE_CHECKING:
    from collections.abc import Iterable


class GraphInterpreter(fx.Interpreter):
    """An interpreter that passes new lists and dicts to each call, as the generated code of a graph does.

    `torch.fx.Interpreter` passes the immutable ones of the graph, which a function may not write to.
    """

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a node, with mutable containers."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(map(_mutable, args)), {name: _mutable(value) for name, value in kwargs.items()}


def find_last_uses(nodes: Iterable[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Return the nodes whose values no later node reads, by the last node that reads them, or that computes them."""
    last_use: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        last_use[node] = node
        last_use.update(dict.fromkeys(node.all_input_nodes, node))
    dead: dict[fx.Node, list[fx.Node]] = {}
    for node, user in last_use.items():
        dead.setdefault(user, []).append(node)
    return dead


def _mutable(value: Any) -> Any:
    if isinstance(value, immutable_dict):
        return {name: _mutable(item) for name, item in value.items()}
    if isinstance(value, immutable_list):
        return [_mutable(item) for item in value]
    return tuple(map(_mutable, value)) if type(value) is tuple else value
