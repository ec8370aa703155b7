"""Symbolic tracing: the model's forward runs once with proxies instead of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.graph import TraceInfo, build_traced_module, copy_sharing_parameters, set_info, set_mode
from surgery.tracing.example_check import compare_on_example
from surgery.tracing.mode_changes import refuse_changing_modes
from surgery.tracing.mode_graphs import ModeGraphs, module_modes

if TYPE_CHECKING:
    from torch import nn

    from surgery.graph import TracedModule
    from surgery.tracing.traced_copy import TraceRequest


def trace_symbolically(request: TraceRequest) -> TracedModule:
    """Return a model as a graph module, which was compared with the model if there is an example.

    Raises TraceError if it can't be traced, or if its graph would do something else.
    """
    model = request.model
    refuse_changing_modes(model)
    traces = ModeGraphs(request)
    traces.trace_modes()
    traced = build_traced_module(traces.owner, traces.graphs)
    for part in ("_parameters", "_buffers", "_modules"):  # hooks that have closed over the model find them there
        setattr(traces.owner, part, getattr(traced, part))
    traced.modes = {mode: _modules_in_other_mode(model, mode) for mode in (True, False)}
    hazards, has_example = traces.hazards, request.inputs.example is not None
    if has_example:
        hazards += compare_on_example(request, traced, hazards)
    is_verified = has_example and not any(hazard.changes_result for hazard in hazards)
    set_info(traced, TraceInfo("symbolic", is_verified=is_verified, hazards=hazards))
    return traced


def _modules_in_other_mode(model: nn.Module, mode: bool) -> dict[str, bool]:
    """Return the modules that stay in the other mode when the model is put into one: frozen batch norms, say."""
    modes = module_modes(set_mode(copy_sharing_parameters(model), mode))
    return {path: training for path, training in modes.items() if training is not mode}
