"""Whether the graph of a model does what the model does, and the first thing that it does otherwise."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from surgery.eager import find_first_difference
from surgery.errors import first_line
from surgery.graph import bitwise_equal, describe_difference
from surgery.tracing.example_run import SEED, ExampleError, Outcome, both_runs, copies_after_a_run
from surgery.tracing.operation_order import Parting, step_that_differs

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.tracing.example_run import Comparison


def parting(comparison: Comparison) -> Parting | None:
    """Where the graph does something else on the example than the model does; None where it does the same.

    Both run on copies of the inputs and of all that a run could change, with the same random numbers. Outputs, buffers
    and random numbers are compared bit for bit, and so are the operations: their paths, shapes and dtypes. What the
    graph's operations give is noted in its nodes.

    Then the same copies run again, with parameters, buffers and inputs that are slightly different, and outputs,
    buffers and random numbers are compared. Where the model raises an error in that run, it is not compared.

    A model whose runs differ from each other is not compared. Raises ExampleError where the model itself does not run.
    """
    found = _parting(comparison)
    tries = 3 if threading.active_count() > 1 else 1  # other threads may have drawn from torch's generator meanwhile
    while found is not None and (tries := tries - 1):
        found = _parting(comparison)
    return found


def _parting(comparison: Comparison) -> Parting | None:
    runs = both_runs(comparison)
    if (name := _reads_left_over(comparison, runs.changed)) is not None:
        return Parting(None, f"the graph holds a value that an earlier run left in {name}, and each run writes there")
    if isinstance(runs.graph, Exception):
        return Parting(None, f"the model takes the example, and its graph does not: {first_line(runs.graph)}")
    difference = _difference(runs.model, runs.graph)
    step = step_that_differs(runs.order, comparison.traced, comparison.graph)
    later = None if difference or step else _difference(runs.model_again, runs.graph_again)
    if difference is None and step is None and later is None:
        return None
    repeated = both_runs(comparison, graph=False)  # both runs, so that what alternates from run to run begins as before
    if _difference(runs.model, repeated.model) or [r.path for r in runs.order] != [r.path for r in repeated.order]:
        return None
    if later is not None:
        return None if _difference(runs.model_again, repeated.model_again) else _frozen(comparison)
    return step or _where_values_differ(comparison) or Parting(None, difference or "")


def _frozen(comparison: Comparison) -> Parting | None:
    """Where and why a graph that is right in the first run is not in the second.

    None where it is right in a first run with the same values: there the model remembers what it computed with others.
    """
    again = both_runs(replace(comparison, weights=False, values=False))
    if (found := _difference(again.model_again, again.graph_again)) is not None:
        place = _where_values_differ(comparison, again=True)
        return Parting(place.source if place else None, f"{_ANOTHER}: {place.what if place else found}", "state", _KEEP)
    for weights, values, what in _CAUSES:
        early = replace(comparison, weights=weights, values=values, twice=False, early=True)
        with suppress(ExampleError):
            runs = both_runs(early)
            if (found := _difference(runs.model, runs.graph)) is not None:
                place = _where_values_differ(early)
                said = place.what if place else found
                return Parting(place.source if place else None, f"{what}: {said}", "constant", _COMPUTE)
    return None


_WHOLE = "keep the module around it whole with leaves=[...]"
_ANOTHER = "the model computes something else in its second run, and its graph what it computed while tracing"
_KEEP = f"draw random numbers with torch and keep what changes in a buffer, or {_WHOLE}"
_COMPUTE = f"compute with the tensors themselves, or {_WHOLE}"
_CAUSES = (
    (True, False, "the graph holds values of parameters or buffers as they were while tracing"),
    (False, True, "the graph holds values of its inputs as they were while tracing"),
    (True, True, "the graph holds values as they were while tracing"),
)
"""What it shows where the graph is another with other parameters and buffers, or not, and other inputs, or not."""


def _where_values_differ(comparison: Comparison, *, again: bool = False) -> Parting | None:
    """The first operation of the graph whose value the model does not compute, in the first run or in one after it."""
    if comparison.inputs.keyword_names:
        return None
    with suppress(Exception):  # which is no reason to say less than what differs in the end
        model, traced = copies_after_a_run(comparison) if again else comparison.copies()
        given = list(comparison.given().values())
        operation, difference = find_first_difference(model, traced, given, comparison.mode, seed=SEED)
        return Parting(operation.source, f"the graph gives another {operation.path} than the model{difference}")
    return None


def _reads_left_over(comparison: Comparison, changed: set[str]) -> str | None:
    """The attribute that holds a constant of the graph, where every run of the model changes that attribute."""
    for node in comparison.graph.nodes:
        if node.op == "get_attr":
            target = str(node.target)
            home, _, name = target.rpartition(".")
            value = getattr(comparison.traced.get_submodule(home), name, None)
            for attribute in changed:
                if target == attribute or any(
                    value is tensor for tensor in comparison.attribute_tensors.get(attribute, ())
                ):
                    return attribute
    return None


def _difference(truth: Outcome | Exception | None, found: Outcome | Exception | None) -> str | None:
    """The first thing that a run gave or left that is not what the other did, in words.

    None where the first raised an error, or one of them was not run.
    """
    if isinstance(truth, Outcome) and isinstance(found, Exception):
        return f"the model runs, and its graph does not: {first_line(found)}"
    if isinstance(truth, Outcome) and isinstance(found, Outcome):
        return _other_output(truth, found) or _other_state(truth, found)
    return None


def _other_output(truth: Outcome, found: Outcome) -> str | None:
    if truth.structure != found.structure:
        return "the graph gives an output of another structure than the model"
    for (key, one), (_, other) in zip(truth.tensors, found.tensors, strict=False):
        if _can_be_compared(one, other) and not bitwise_equal(one, other):
            return f"the graph gives another output{key} than the model: {describe_difference(other, one)}"
    return None


def _other_state(truth: Outcome, found: Outcome) -> str | None:
    for name, buffer in truth.buffers.items():
        if name in found.buffers and _can_be_compared(buffer) and not bitwise_equal(buffer, found.buffers[name]):
            difference = describe_difference(found.buffers[name], buffer)
            return f"the graph leaves the buffer {name} otherwise than the model: {difference}"
    alone = threading.active_count() == 1  # else another thread may have drawn
    if alone and not torch.equal(truth.generator, found.generator):
        return "the graph draws other random numbers than the model"
    return None


def _can_be_compared(*tensors: Tensor) -> bool:
    """Whether tensors have values in rows: those on the meta device have none, and nested ones have no shape."""
    return not any(tensor.is_meta or tensor.is_nested for tensor in tensors)
