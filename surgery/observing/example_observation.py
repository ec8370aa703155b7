"""`observe`: one run of a model on an example, and the observed model that comes of it."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from surgery.eager import collect_outcome, describe_outcome_difference, run_observed
from surgery.errors import TraceError, first_line
from surgery.graph import TraceInfo, check_leaves_called, set_info
from surgery.observing.example_runs import ExampleRuns
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
    `reason` says why the model has no graph. Parameters that forward writes to are copied, as buffers are.

    Raises TraceError if the model does not run on the example, or gives another output while it is observed.
    """
    runs = ExampleRuns(model, inputs, outside)
    observation, reach = _observe_example(runs, leaves)
    check_leaves_called(model, leaves, [operation.path.partition("@")[0] for operation in observation.operations])
    runs.note_writes_in_other_mode()
    observed = make_observed(runs.copy_model(), observation)
    set_info(observed, TraceInfo("observed", reason, is_verified=True, reach=reach))
    return observed


_REPEATED_RUNS = 4
"""How often a model runs again that gave another output when it was observed, to see if it does so by chance."""
_MORE_ATTEMPTS = 8
"""How often more it is observed while other threads run, whose random numbers may disturb one run after the other."""


def _observe_example(runs: ExampleRuns, leaves: Leaves) -> tuple[Observation, Reach | None]:
    """Run copies of a model on the example, observed and not, and return what was observed if both did the same."""
    name = type(runs.model).__name__
    first = _try_observed(runs, leaves, counts_reach=True)  # finds out which parameters forward writes to
    expected = runs.run_first()
    difference: str | None = None
    # A model may need gradients, which the first run had not, and may behave differently while its reach is counted.
    attempts: tuple[bool | None, ...] = (None, True, False) if isinstance(first, Exception) else (None, False)
    if threading.active_count() > 1:  # other threads may draw from torch's generator meanwhile
        attempts += (False,) * _MORE_ATTEMPTS
    for counts_reach in attempts:
        observed = first if counts_reach is None else _try_observed(runs, leaves, counts_reach=counts_reach)
        if isinstance(observed, Exception):
            difference = f"it does not run while it is observed: {type(observed).__name__}: {first_line(observed)}"
            continue
        observation, reach, outcome = observed
        difference = describe_outcome_difference(expected, outcome, "observed run")
        if difference is None or any(describe_outcome_difference(expected, runs.run()) for _ in range(_REPEATED_RUNS)):
            return observation, reach
    raise TraceError(f"{name} can't be observed: {difference}")


def _try_observed(
    runs: ExampleRuns, leaves: Leaves, *, counts_reach: bool
) -> tuple[Observation, Reach | None, RunOutcome] | Exception:
    copy = runs.copy_model(guarded=counts_reach)
    try:
        return _run_observed(runs, copy, leaves, counts_reach=counts_reach)
    except Exception as error:  # noqa: BLE001 - the model's code may raise anything
        return error


def _run_observed(
    runs: ExampleRuns, copy: nn.Module, leaves: Leaves, *, counts_reach: bool
) -> tuple[Observation, Reach | None, RunOutcome]:
    with runs.guard_parameters(copy) as guard, runs.start(copy) as values:
        recorder = OperationRecorder(values, copy)
        counter = ReachCounter(recorder, guard) if counts_reach else None
        arguments, keywords = runs.inputs.split(values)
        elsewhere = None if counter is None else counter.call_elsewhere
        with counter or nullcontext():
            output = run_observed(
                copy, recorder, arguments, keywords, leaves=leaf_rule_for(leaves), call_elsewhere=elsewhere
            )
        outcome = collect_outcome(output, copy)
        edges = recorder.edges(output)
    inputs = runs.inputs
    observation = Observation(recorder.operations(), edges, inputs.names, inputs.keyword_names, tuple(leaves))
    return observation, None if counter is None else counter.reach(), outcome
