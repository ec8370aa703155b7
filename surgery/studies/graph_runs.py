"""Runs of a graph that stop on the way, and go on from there with edits, as often as needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from surgery.graph import GraphInterpreter, contexts, find_last_uses, inplace, storage_id
from surgery.rewriting import ActivationEdit
from surgery.studies.run_state import RunState
from surgery.studies.value_copies import copy_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BEGINNINGS = (contexts.enter_inference, contexts.enter_autocast)


class GraphRun:
    """One run of the graph of a traced model, node by node, with only the values that are still needed.

    At any point, the run can be branched off into runs of edited graphs, which compute only what comes after the point.
    Each branch starts from copies of the values and from the state of random generators and buffers at the point, so
    that it computes what the whole edited model computes, bit for bit.
    """

    def __init__(self, traced: fx.GraphModule, args: Sequence[Any], device: torch.device) -> None:
        """`args` are the positional arguments of `traced`, which is on `device`."""
        self._traced = traced
        self._nodes = list(traced.graph.nodes)
        self._dead_after = find_last_uses(self._nodes)
        self._interpreter = _Interpreter(traced, traced.graph.process_inputs(*args))
        self._device = device
        self._next = 0
        self._unread: fx.Node | None = None
        """The last computed node, if no other node reads it."""
        self._branch_state: RunState | None = None

    @property
    def values(self) -> dict[fx.Node, Any]:
        """The values that are still needed, by node."""
        return self._interpreter.env

    def advance(self, stop: int) -> None:
        """Compute the nodes before the one with the number `stop`."""
        self._leave_branches()
        for node in self._nodes[self._next : stop]:
            self._run_node(node)
        self._next = max(self._next, stop)

    def finish(self, on_node: Callable[[fx.Node], None] | None = None) -> Any:
        """Compute all that is left, and return the output of the model. `on_node` is called after each node."""
        self._leave_branches()
        output = None
        for node in self._nodes[self._next :]:
            output = self._run_node(node, on_node)
        self._next = len(self._nodes)
        return self._traced.graph.process_outputs(output)

    def branch(self, edited: fx.GraphModule) -> Any:
        """Return the output of an edited model that differs from this one only after the last computed node.

        The edits are taken from it, and all other modules from the model of this run.
        """
        if self._branch_state is None:
            self._branch_state = RunState(self._kept_tensors(), self._device)
        else:
            self._branch_state.restore()
        nodes = list(edited.graph.nodes)
        counterparts = dict(zip(self._nodes[: self._next], nodes[: self._next], strict=True))
        rest = nodes[self._next :]
        needed = {user for node in rest for user in node.all_input_nodes}
        shared = {place for tensor in self._kept_tensors() if (place := storage_id(tensor)) is not None}
        shared |= {place for tensor in self._traced.parameters() if (place := storage_id(tensor)) is not None}
        values = {counterparts[node]: value for node, value in self.values.items() if counterparts[node] in needed}
        interpreter = _Interpreter(self._traced, (), edited)
        interpreter.env = copy_values(values, shared)
        del values
        dead_after = find_last_uses(rest)
        output = None
        for node in rest:
            output = interpreter.env[node] = interpreter.run_node(node)
            for dead in dead_after.get(node, ()):
                interpreter.env.pop(dead, None)
        return edited.graph.process_outputs(output)

    def _leave_branches(self) -> None:
        """Bring back the state that the branches have started from."""
        if self._branch_state is not None:
            self._branch_state.restore()
            self._branch_state = None

    def _run_node(self, node: fx.Node, on_node: Callable[[fx.Node], None] | None = None) -> Any:
        if self._unread is not None:
            self.values.pop(self._unread, None)
        value = self.values[node] = self._interpreter.run_node(node)
        if on_node is not None:
            on_node(node)
        dead = self._dead_after.get(node, [])
        for other in dead:
            if other is not node:
                self.values.pop(other, None)
        self._unread = node if node in dead else None  # a branch may read it
        return value

    def _kept_tensors(self) -> list[Tensor]:
        """Return the tensors that the model keeps, and may write to: its buffers, and constants of the graph."""
        parameters = {id(parameter) for parameter in self._traced.parameters()}
        constants = (value for node, value in self.values.items() if node.op == "get_attr")
        kept = [*self._traced.buffers(), *(value for value in constants if isinstance(value, Tensor))]
        return list({id(tensor): tensor for tensor in kept if id(tensor) not in parameters}.values())


def find_cut(traced: fx.GraphModule, edited: fx.GraphModule) -> int | None:
    """Return how many nodes the graph of `edited` has before its first edit, which are those of `traced`.

    None if a run can't be branched there: inside a block such as ``with torch.autocast(...)``, which a branch would
    end, or in a graph that sets attributes of objects.
    """
    nodes, others = list(traced.graph.nodes), list(edited.graph.nodes)
    if any(node.target is inplace.set_attribute for node in nodes):
        return None
    cut = next(place for place, (one, other) in enumerate(zip(nodes, others, strict=False)) if one.name != other.name)
    open_blocks = [node for node in nodes[:cut] if node.target in _BEGINNINGS]
    later = set(nodes[cut:])
    return None if any(later.intersection(node.users) for node in open_blocks) else cut


class _Interpreter(GraphInterpreter):
    """Runs single nodes with the modules of `traced`, and with the edits of `edited`."""

    def __init__(self, traced: fx.GraphModule, inputs: Iterable[Any], edited: fx.GraphModule | None = None) -> None:
        super().__init__(traced, garbage_collect_values=False, graph=None if edited is None else edited.graph)
        modules = {} if edited is None else dict(edited.named_modules(remove_duplicate=False))
        self._edits = {path: module for path, module in modules.items() if isinstance(module, ActivationEdit)}
        self.args_iter = iter(inputs)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a module by its path."""
        edit = self._edits.get(target)
        return super().call_module(target, args, kwargs) if edit is None else edit(*args, **kwargs)
