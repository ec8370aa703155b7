"""The graphs of a model in train mode, in eval mode, and in the mixed mode that it may be in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.errors import TraceError
from surgery.graph import (
    Hazard,
    copy_isolating_hooks,
    copy_sharing_parameters,
    format_location,
    is_same_graph,
    list_modules,
    set_mode,
)
from surgery.tracing.mode_changes import overrides_train
from surgery.tracing.retargeting import move_constants, retarget_graph
from surgery.tracing.state_dict_methods import find_state_dict_methods
from surgery.tracing.traced_copy import TraceRequest, trace_copy

if TYPE_CHECKING:
    from surgery.graph import GraphsByMode


class ModeGraphs:
    """Traces a model in each of its modes.

    Tracing takes the branch of one mode, as in ``F.dropout(x, training=self.training)``. So each mode has a graph.
    """

    def __init__(self, request: TraceRequest) -> None:
        self.request = request
        self.owner = copy_sharing_parameters(request.model)
        """The module that the graphs refer to. The constants that tracing made are buffers of it."""
        self.graphs: GraphsByMode = {}
        """For each mode its graph, or the reason why there is none."""
        self.hazards: tuple[Hazard, ...] = ()
        self.other_modes: dict[bool, dict[str, bool]] = {}
        """For each mode the modules that stay in the other one when the model is put into it: frozen batch norms."""

    def trace_modes(self) -> None:
        """Trace the model in its current mode and in each other mode. Raises TraceError if the first trace fails."""
        model = self.request.model
        first = self._trace(model)
        self.graphs = {None: first}
        for mode in (model.training, not model.training):
            if mode == model.training and _stays_the_same(model):
                self.other_modes[mode], self.graphs[mode] = {}, first
                self.graphs.pop(None, None)
                continue
            in_mode = set_mode(copy_isolating_hooks(model), mode)
            modes = _module_modes(in_mode)
            self.other_modes[mode] = {path: training for path, training in modes.items() if training is not mode}
            if modes == _module_modes(model):
                self.graphs[mode] = first
                self.graphs.pop(None, None)
                continue
            try:
                graph = self._trace(in_mode, copy=in_mode)
            except TraceError as error:
                traced_mode = "mixed" if None in self.graphs else _mode_name(not mode)
                name = _mode_name(mode)
                self.graphs[mode] = f"traced in {traced_mode} mode, and there is no {name} mode: {error}"
            else:
                self.graphs[mode] = first if is_same_graph(first, graph) else graph
        if any(graph is not first for graph in self.graphs.values()):
            self._check_repeatable(first)

    def _trace(self, model: nn.Module, copy: nn.Module | None = None) -> fx.Graph:
        """Trace a copy of a model: `copy`, or a new one."""
        tracer = trace_copy(self.request, model, copy)
        hazards = [*tracer.hazards]
        if "state-dict" not in self.request.allow:
            hazards += find_state_dict_methods(model, tracer.leaf_paths)
        for hazard in hazards:
            self.request.check(hazard)
        self.hazards = tuple(dict.fromkeys((*self.hazards, *hazards)))
        move_constants(tracer, self.owner)
        return retarget_graph(tracer.graph)

    def _check_repeatable(self, first: fx.Graph) -> None:
        """Note a hazard if the model, traced again in the same mode, gives another graph.

        Then the graphs of its modes may differ for the same reason, and not because of the mode.
        """
        again = self._trace(self.request.model)
        if is_same_graph(first, again):
            return
        line = _first_differing_node(first, again).meta.get("surgery_source")
        what = "forward computes something else each time it is called, because of something outside the model"
        remedy = "make it part of the model, or an input"
        hazard = Hazard("state", format_location(line), what, remedy, changes_result=True)
        self.request.check(hazard)
        self.hazards = (*self.hazards, hazard)


def _module_modes(model: nn.Module) -> dict[str, bool]:
    """Return for the path of each module whether it is in train mode."""
    return {path: module.training for path, module in list_modules(model)}


def _stays_the_same(model: nn.Module) -> bool:
    """Return whether it is known that a model changes nothing if it is put into the mode that it is in."""
    modules = [module for _, module in list_modules(model)]
    return not any(module.training is not model.training or overrides_train(type(module)) for module in modules)


def _mode_name(mode: bool) -> str:
    return "train" if mode else "eval"


def _first_differing_node(graph: fx.Graph, other: fx.Graph) -> fx.Node:
    """Return the first node that differs from the node at its place in another graph; the last node if none does."""
    nodes: list[fx.Node] = list(graph.nodes)
    return next((one for one, two in zip(nodes, other.nodes, strict=False) if _step(one) != _step(two)), nodes[-1])


def _step(node: fx.Node) -> tuple[object, ...]:
    return node.op, node.target, str(node.args), str(node.kwargs)
