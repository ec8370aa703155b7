"""`observe`: one run of a model on an example, and the observed model that comes of it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import (
    ExampleError,
    collect_outcome,
    describe_outcome_difference,
    isolate_caches,
    run_observed,
    seed_generators,
)
from surgery.errors import TraceError, first_line
from surgery.graph import (
    TraceInfo,
    check_leaves_called,
    clone_inputs,
    copy_isolating_hooks,
    run_model,
    set_info,
    tensor_specs,
)
from surgery.observing.observation import Observation, leaf_rule_for
from surgery.observing.observed_model import make_observed
from surgery.observing.operation_recorder import OperationRecorder
from surgery.observing.reach import ReachCounter

if TYPE_CHECKING:
    from torch import nn

    from surgery.eager import ExampleInputs, ExternalState, RunOutcome
    from surgery.graph import Leaves, Reach
    from surgery.observing.observed_model import ObservedModel


def observe(
    model: nn.Module, inputs: ExampleInputs, outside: ExternalState, *, leaves: Leaves = (), reason: str | None = None
) -> ObservedModel:
    """Return `model` as an observed model, whose operations are those of its run on the example.

    `outside` is the state outside the model, which is left as it was. `leaves` are modules to be kept whole, and
    `reason` says why the model has no graph.

    Raises TraceError if the model does not run on the example, or gives another output while it is observed.
    """
    observation, reach = _observe_example(model, inputs, outside, leaves)
    check_leaves_called(model, leaves, [operation.path.partition("@")[0] for operation in observation.operations])
    observed = make_observed(copy_isolating_hooks(model), observation)
    set_info(observed, TraceInfo("observed", reason, is_verified=True, reach=reach))
    return observed


def _observe_example(
    model: nn.Module, inputs: ExampleInputs, outside: ExternalState, leaves: Leaves
) -> tuple[Observation, Reach | None]:
    """Run copies of a model on the example, observed and not, and return what was observed if both did the same."""
    try:
        expected = _run_plain(model, inputs, outside)
    except Exception as error:
        shapes = ", ".join(str(tuple(spec.shape)) for spec in tensor_specs(inputs.example))
        of_shape = f" of shape {shapes}" if shapes else ""
        raise ExampleError(f"the example{of_shape} does not run: {first_line(error)}") from error
    difference: str | None = None
    for counts_reach in (True, False):  # a model may behave differently while its reach is counted
        try:
            observation, reach, outcome = _run_observed(model, inputs, outside, leaves, counts_reach=counts_reach)
        except Exception as error:  # noqa: BLE001 - the model's code may raise anything
            difference = f"it does not run while it is observed: {type(error).__name__}: {first_line(error)}"
            continue
        difference = describe_outcome_difference(expected, outcome, "observed run")
        if difference is None or describe_outcome_difference(expected, _run_plain(model, inputs, outside)) is not None:
            return observation, reach
    raise TraceError(f"{type(model).__name__} can't be observed: {difference}")


def _run_plain(model: nn.Module, inputs: ExampleInputs, outside: ExternalState) -> RunOutcome:
    copy = copy_isolating_hooks(model)
    arguments, keywords = inputs.split(clone_inputs(inputs.example))
    with torch.no_grad(), isolate_caches(copy), outside.preserve(), seed_generators(arguments):
        return collect_outcome(run_model(copy, arguments, keywords), copy)


def _run_observed(
    model: nn.Module, inputs: ExampleInputs, outside: ExternalState, leaves: Leaves, *, counts_reach: bool
) -> tuple[Observation, Reach | None, RunOutcome]:
    copy = copy_isolating_hooks(model)
    values: dict[str, Any] = clone_inputs(inputs.example)
    arguments, keywords = inputs.split(values)
    recorder = OperationRecorder(values, copy)
    counter = ReachCounter(recorder) if counts_reach else None
    rule = leaf_rule_for(leaves)
    with torch.no_grad(), isolate_caches(copy), outside.preserve(), seed_generators(arguments):
        with counter or nullcontext():
            output = run_observed(copy, recorder, arguments, keywords, leaves=rule)
        outcome = collect_outcome(output, copy)
        edges = recorder.edges(output)
    observation = Observation(recorder.operations(), edges, inputs.names, inputs.keyword_names, tuple(leaves))
    return observation, None if counter is None else counter.reach(), outcome
