"""Graphs, run node by node."""

from __future__ import annotations

from typing import Any

from torch import fx
from torch.fx.immutable_collections import immutable_dict, immutable_list


class GraphInterpreter(fx.Interpreter):
    """Runs a graph as the code does that is generated for it: lists and dicts are new in each call, and may be written.

    `torch.fx.Interpreter` itself gives a function that is kept whole the graph's own, which refuse to be.
    """

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a node."""
        args, kwargs = super().fetch_args_kwargs_from_env(n)
        return tuple(map(_mutable, args)), {name: _mutable(value) for name, value in kwargs.items()}


def _mutable(value: Any) -> Any:
    if isinstance(value, immutable_dict):
        return {name: _mutable(item) for name, item in value.items()}
    if isinstance(value, immutable_list):
        return [_mutable(item) for item in value]
    return tuple(map(_mutable, value)) if type(value) is tuple else value
