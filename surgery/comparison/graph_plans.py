"""Graphs that are run node by node: the order of their nodes, and copies that a run may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx, nn

from surgery.graph import copy_isolating_hooks, find_last_uses, operation_groups

if TYPE_CHECKING:
    from surgery.graph import OperationGroup

_STATELESS = {"torch", "_operator", "operator", "builtins", "math"}
"""The packages whose functions keep nothing from one run to the next."""


class GraphPlan:
    """A graph and what is known of its nodes before it runs."""

    def __init__(self, model: fx.GraphModule) -> None:
        self.model = model
        self.nodes = list(model.graph.nodes)
        self.place = {node: number for number, node in enumerate(self.nodes)}
        self.groups: dict[str, OperationGroup] = {group.operation.path: group for group in operation_groups(model)}
        self.dead_after = find_last_uses(self.nodes)
        """The nodes that no later node reads, by the last that reads them."""


class GraphCopies:
    """Returns a copy of a graph for each run, which begins with the buffers that the graph has.

    Modules of torch without hooks keep nothing but their buffers, so the same copy is used again.
    """

    def __init__(self, model: fx.GraphModule) -> None:
        self._model = model
        self._is_plain = _is_plain(model)
        self._plan: GraphPlan | None = None

    def take(self) -> GraphPlan:
        """Return the copy for the next run. The one before it has ended."""
        if self._plan is None or not self._is_plain:
            self._plan = GraphPlan(copy_isolating_hooks(self._model))
        else:
            # All of them: batch normalization writes to its statistics without a trace in their versions.
            with torch.no_grad():
                for own, given in zip(self._plan.model.buffers(), self._model.buffers(), strict=True):
                    own.copy_(given)
        return self._plan


def _is_plain(model: fx.GraphModule) -> bool:
    """Return whether all that a run may change in a graph are buffers."""
    nodes = model.graph.nodes
    called = [model.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    functions = [node.target for node in nodes if node.op == "call_function"]
    attributes = {str(node.target) for node in nodes if node.op == "get_attr"}
    named = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return (
        all(_is_of_torch(module) for each in called for module in each.modules())
        and all(str(getattr(each, "__module__", None)).partition(".")[0] in _STATELESS for each in functions)
        and attributes <= named
    )


def _is_of_torch(module: nn.Module) -> bool:
    has_hooks = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001
    return type(module).__module__.startswith("torch.nn.") and not has_hooks
