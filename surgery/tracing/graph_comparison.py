"""Finds the first difference between a model and its graph on the example."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.eager import SEED, ExampleError, describe_outcome_difference, find_first_difference
from surgery.errors import first_line
from surgery.tracing.example_runs import copies_after_first_run, run_comparison
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.operation_comparison import GraphDifference, find_operation_difference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.tracing.example_runs import Comparison


def find_graph_difference(comparison: Comparison) -> GraphDifference | None:
    """Return the first difference between a model and its graph on the example; None if there is none.

    Both run on copies of the inputs and of all state that a run could change, with the same random numbers. Outputs,
    buffers and random numbers are compared bit for bit. The operations are compared by their paths, shapes and dtypes.
    The shapes are recorded in the nodes of the graph.

    Then the same copies run again, with parameters, buffers and inputs that are slightly different, and outputs,
    buffers and random numbers are compared. If the model raises an error in that run, it is not compared.

    A model whose runs differ from each other is not compared, unless it changes a number or a tensor that a run may
    read. Raises ExampleError if the model itself does not run.
    """
    # Other threads may draw from torch's generator meanwhile, and disturb one attempt after the other.
    attempts = 10 if threading.active_count() > 1 else 1
    difference = None
    for _ in range(attempts):
        with suppress(_DifferentRunsError):
            difference = _compare_once(comparison)
            if difference is None or difference.is_certain:
                return difference
    return difference


class _DifferentRunsError(Exception):
    """The model's own runs differ from each other."""


def _compare_once(comparison: Comparison) -> GraphDifference | None:
    """Compare a model and its graph. Raises _DifferentRunsError if that says nothing."""
    runs = run_comparison(comparison)
    if runs.written_tensors:
        what = (
            f"every run of the model writes to {runs.written_tensors[0]}, a tensor outside of it that a later run may "
            "read, and its graph does not"
        )
        return GraphDifference(None, what, "state", _KEEP_IN_BUFFER, is_certain=True)
    if runs.changed_containers and comparison.has_constants():
        names = ", ".join(dict.fromkeys(name or "a global name" for name in runs.changed_containers))
        what = f"the graph holds a tensor, and an earlier run may have left it in {names}, where each run leaves others"
        return GraphDifference(None, what, "state", _KEEP_IN_BUFFER)
    if isinstance(runs.graph, Exception):
        what = f"the model takes the example, and its graph does not: {first_line(runs.graph)}"
        return GraphDifference(None, what)
    in_values = describe_outcome_difference(runs.model, runs.graph)
    in_operations = find_operation_difference(runs.operations, comparison.traced, comparison.graph)
    in_second_run = None
    if in_values is None and in_operations is None:
        in_second_run = describe_outcome_difference(runs.second_model, runs.second_graph)
        if in_second_run is None:
            return _find_changing_number(runs.changed_numbers)
    # The model runs as often as before, so that a model that alternates between two behaviors begins with the same.
    repeated = run_comparison(comparison, with_graph=False)
    if describe_outcome_difference(runs.model, repeated.model) or [o.path for o in runs.operations] != [
        o.path for o in repeated.operations
    ]:
        raise _DifferentRunsError
    if in_second_run is not None:
        is_repeatable = describe_outcome_difference(runs.second_model, repeated.second_model) is None
        if not is_repeatable:
            raise _DifferentRunsError
        return _explain_second_run(comparison)
    return in_operations or _find_value_difference(comparison) or GraphDifference(None, in_values or "")


def _find_changing_number(names: Sequence[str]) -> GraphDifference | None:
    """Return the difference of a model that counts its runs, say: one of them may do something else."""
    if not names:
        return None
    what = f"every run of the model changes {names[0]}, which a later run may read, and its graph does not"
    return GraphDifference(None, what, "state", _KEEP_IN_BUFFER, is_certain=True)


def _explain_second_run(comparison: Comparison) -> GraphDifference | None:
    """Return where and why a graph that is right in the first run is wrong in the second.

    None if the graph is right in a first run with the second run's values. Then the model's second run only reuses
    results of its first run.
    """
    unperturbed = run_comparison(replace(comparison, perturbs_state=False, perturbs_inputs=False))
    if (difference := describe_outcome_difference(unperturbed.second_model, unperturbed.second_graph)) is not None:
        place = _find_value_difference(comparison, after_first_run=True)
        what = f"{_CHANGES_BETWEEN_RUNS}: {place.what if place else difference}"
        return GraphDifference(place.source if place else None, what, "state", _KEEP_IN_BUFFER)
    for perturbs_state, perturbs_inputs, meaning in _CONSTANTS:
        single = replace(
            comparison,
            perturbs_state=perturbs_state,
            perturbs_inputs=perturbs_inputs,
            perturbs_first_run=True,
            runs_twice=False,
        )
        with suppress(ExampleError):
            runs = run_comparison(single)
            if (difference := describe_outcome_difference(runs.model, runs.graph)) is not None:
                place = _find_value_difference(single)
                what = f"{meaning}: {place.what if place else difference}"
                return GraphDifference(place.source if place else None, what, "constant", _USE_TENSORS)
    return None


_CHANGES_BETWEEN_RUNS = "the model computes something else in its second run, and its graph repeats the first"
_KEEP_IN_BUFFER = f"draw random numbers with torch and keep what changes in a buffer, or {KEEP_WHOLE}"
_USE_TENSORS = f"compute with the tensors themselves, or {KEEP_WHOLE}"
_CONSTANTS = (
    (True, False, "the graph holds values of parameters or buffers as they were while tracing"),
    (False, True, "the graph holds values of its inputs as they were while tracing"),
    (True, True, "the graph holds values as they were while tracing"),
)
"""Whether parameters and buffers are perturbed, whether inputs are, and what a difference in that run means."""


def _find_value_difference(comparison: Comparison, *, after_first_run: bool = False) -> GraphDifference | None:
    """Return the first operation of the graph whose value the model does not compute.

    None if no operation differs or if the oracle fails; the output's difference is reported then.
    """
    with suppress(Exception):
        model, traced = copies_after_first_run(comparison) if after_first_run else comparison.copy_models()
        inputs = replace(comparison.inputs, example=comparison.copy_inputs())
        operation, difference = find_first_difference(model, traced, inputs, comparison.mode, seed=SEED)
        what = f"the graph gives another {operation.path} than the model{difference}"
        return GraphDifference(operation.source, what)
    return None
