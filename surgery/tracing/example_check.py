"""The comparison of a traced model with its model on the example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.eager import ExampleError
from surgery.graph import Hazard, tensor_specs
from surgery.tracing.example_runs import Comparison, record_shapes
from surgery.tracing.graph_comparison import find_graph_difference
from surgery.tracing.graph_replay import makes_the_same_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.graph import TracedModule
    from surgery.tracing.traced_copy import TraceRequest


def compare_on_example(request: TraceRequest, traced: TracedModule, hazards: Sequence[Hazard]) -> tuple[Hazard, ...]:
    """Raise TraceError if the graph and the model differ on the example; return the allowed hazards.

    A graph that makes the calls of a run of the model does not run; any other runs beside the model, twice.

    `hazards` are those of the traces. In a mode in which the model itself does not take the example (a batch norm in
    train mode wants more than one value a channel) nothing is compared, unless that is the mode it is in. A graph with
    a hazard that was allowed is not compared at all: it may be different.
    """
    model, inputs = request.model, request.inputs
    if any(hazard.changes_result for hazard in hazards):
        record_shapes(traced, inputs, request.outside)
        return ()
    allowed: list[Hazard] = []
    compared_graphs: set[int] = set()
    current_mode = None if None in traced.graphs else model.training
    for mode in (current_mode, *({True, False} - {current_mode})):
        graph = traced.graphs[mode]
        if isinstance(graph, str):
            continue
        # A graph for both modes holds the same constants in both, so it runs a second time in one mode only.
        runs_twice = id(graph) not in compared_graphs
        comparison = Comparison(model, traced, inputs, mode, request.outside, runs_twice=runs_twice)
        try:
            difference = None if makes_the_same_calls(comparison) else find_graph_difference(comparison)
        except ExampleError as error:
            if mode == current_mode:
                shapes = ", ".join(str(tuple(spec.shape)) for spec in tensor_specs(inputs.example))
                of_shape = f" of shape {shapes}" if shapes else ""
                raise ExampleError(f"the example{of_shape} does not run: {error}") from error
            continue
        compared_graphs.add(id(graph))
        if difference is not None:
            hazard = Hazard(difference.kind, difference.source, difference.what, difference.remedy, changes_result=True)
            request.check(hazard)
            allowed.append(hazard)
    return tuple(dict.fromkeys(allowed))
