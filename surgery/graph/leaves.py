"""Leaves: modules and functions that are one operation each."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import singledispatch
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import fx, nn

from surgery.errors import TraceError
from surgery.graph.nodes import operation_nodes
from surgery.graph.trace_info import not_traced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

Leaves: TypeAlias = "Sequence[str | type[nn.Module]]"
"""Modules that a user wants to be kept whole: classes, names of classes, and paths with the wildcards of a shell."""


def is_leaf_by_default(module: nn.Module, path: str) -> bool:
    """Return whether a module is one operation by itself: a module of torch that is no container, TorchScript, einops.

    Another module says so of itself by an attribute ``is_operation`` that is true, usually of its class. The model
    itself, whose path is empty, is no operation.
    """
    home = type(module).__module__
    is_torch = home.startswith(("torch.nn.", "torch.ao.nn.")) and not isinstance(module, nn.Sequential)
    is_other = isinstance(module, torch.jit.ScriptModule) or home.startswith("einops.")
    return bool(path) and (is_torch or is_other or getattr(module, "is_operation", False) is True)


def matches_leaf(leaf: str | type[nn.Module], module: nn.Module, path: str) -> bool:
    """Return whether an item of `Leaves` names a module."""
    if isinstance(leaf, str):
        return fnmatchcase(path, leaf) or type(module).__name__ == leaf
    return isinstance(leaf, type) and isinstance(module, leaf)


def check_leaves_called(model: nn.Module, leaves: Leaves, called_paths: Collection[str]) -> None:
    """Raise TraceError for a leaf that matches no module, or only modules that forward doesn't call.

    `called_paths` are those of the modules that were called as one operation. A module inside of one of them is not
    called by itself, and is kept whole with it.
    """
    for leaf in leaves:
        name = leaf if isinstance(leaf, str) else leaf.__name__
        paths = [path for path, module in model.named_modules() if path and matches_leaf(leaf, module, path)]
        if not paths and matches_leaf(leaf, model, ""):
            raise TraceError(f"{name!r} is the model itself, which is no operation of its own; name a module in it")
        if not paths:
            raise TraceError(f"{name!r} is neither the path nor the class of a module of the model")
        if not any(f"{path}.".startswith(f"{called}.") for path in paths for called in called_paths):
            raise TraceError(
                f"{name!r} can't be kept whole: forward does not call {paths[0]}; its attributes or other "
                "methods may be used: name the module around it"
            )


@dataclass(frozen=True, slots=True)
class LeafRule:
    """Which modules and functions of a traced model are one operation each."""

    is_leaf: Callable[[nn.Module, str], bool]
    """Takes a module and its path."""
    functions: Sequence[object] = ()
    """Python functions that are called in a graph."""


@singledispatch
def leaf_rule(traced: object) -> LeafRule:
    """Return which modules and functions of a traced model are one operation each; raise TraceError for others."""
    raise not_traced(traced)


@leaf_rule.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> LeafRule:
    return graph_leaf_rule(traced, traced.graph)


def graph_leaf_rule(traced: fx.GraphModule, graph: fx.Graph) -> LeafRule:
    """Return which modules and functions one of the graphs of a traced model calls."""
    operations = [operation for _, operation in operation_nodes(traced, graph)]
    paths = {path for each in operations if (path := each.path.partition("@")[0]) in each.scopes}
    functions = tuple(node.target for node in graph.nodes if node.op == "call_function")
    return LeafRule(lambda _, path: path in paths, functions)
