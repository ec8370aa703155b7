"""Symbolic tracing: the model's forward runs once with proxies instead of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.graph import TraceInfo, build_traced_module, set_info
from surgery.tracing.example_check import compare_on_example
from surgery.tracing.mode_changes import refuse_changing_modes
from surgery.tracing.mode_graphs import ModeGraphs

if TYPE_CHECKING:
    from surgery.graph import TracedModule
    from surgery.tracing.traced_copy import TraceRequest


def trace_symbolically(request: TraceRequest) -> TracedModule:
    """Return a model as a graph module, which was compared with the model if there is an example.

    Raises TraceError if it can't be traced, or if its graph would do something else.
    """
    refuse_changing_modes(request.model)
    traces = ModeGraphs(request)
    traces.trace_modes()
    traced = build_traced_module(traces.owner, traces.graphs)
    for part in ("_parameters", "_buffers", "_modules"):  # hooks that have closed over the model find them there
        setattr(traces.owner, part, getattr(traced, part))
    traced.modes = traces.other_modes
    hazards, has_example = traces.hazards, request.inputs.example is not None
    if has_example:
        hazards += compare_on_example(request, traced, hazards)
    is_verified = has_example and not any(hazard.changes_result for hazard in hazards)
    set_info(traced, TraceInfo("symbolic", is_verified=is_verified, hazards=hazards))
    return traced
