"""The original and the rewritten model, run on the same inputs in the same mode."""

from __future__ import annotations

from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from surgery.eager import SEED, ExternalState, compare_values_with_eager, copy_to_run, isolate_caches, run_once
from surgery.errors import ModelError, first_line
from surgery.graph import is_export, leaf_rule, set_mode, trace_info
from surgery.verification.certificate import Comparison
from surgery.verification.differences import first_difference

if TYPE_CHECKING:
    from collections import Counter

    from torch import nn

    from surgery.eager import ExampleInputs, RunResult, Split

TRAINING_FLAGS: dict[str, bool | None] = {"eval": False, "train": True, "as-is": None}
"""What each mode sets `training` to; None leaves each module in the mode that it is in."""


@dataclass(frozen=True, slots=True)
class RewrittenModel:
    """A rewritten model in one mode."""

    opened: nn.Module
    everywhere: nn.Module
    """The same with an extractor after every operation."""


@dataclass(frozen=True, slots=True)
class Case:
    """Inputs to compare two models on."""

    mode: str
    """``eval``, ``train`` or ``as-is``."""
    name: str
    """``example``, ``again``, or how the inputs differ from the user's. In ``again`` the models run twice, and the
    second run is compared. Gradients are compared in ``example`` only."""
    inputs: ExampleInputs

    @property
    def training(self) -> bool | None:
        """What the mode sets `training` to."""
        return TRAINING_FLAGS[self.mode]

    def compared(self, what: str, count: int, difference: str | None) -> Comparison:
        """Return a comparison of `count` things in this case."""
        same = difference is None if count or difference else None
        return Comparison(what, self.mode, self.name, same, count, difference or "")


def compare_case(model: nn.Module, rewritten: RewrittenModel, case: Case) -> list[Comparison]:
    """Run both models in one case and return what was compared; nothing if the original doesn't take other inputs.

    A property in which two runs of the original differ counts as not compared.
    """
    runs = _CaseRuns(model, rewritten, case)
    reason = once = ""
    for gradients in (True, False) if case.name == "example" else (False,):
        try:
            expected = runs.run_original(gradients=gradients)
        except Exception as error:  # noqa: BLE001 - a model may raise anything
            reason = first_line(error)  # some models run only without gradients
            continue
        try:
            actual = runs.run_rewritten(gradients=gradients)
        except ModelError as error:  # an exported graph takes no inputs of other sizes
            same = False if case.name == "example" else None
            return [Comparison("output", case.mode, case.name, same, 0, str(error))]
        except Exception as error:  # noqa: BLE001
            if runs.original_fails(gradients=gradients):
                once = f"they can be computed only once: {first_line(error)}"
                continue
            return [case.compared("output", 1, f"the original runs, the rewritten does not: {first_line(error)}")]
        return [
            replace(comparison, difference=once) if comparison.what == "gradients" and once else comparison
            for comparison in _compare_results(runs, expected, actual, gradients=gradients)
        ]
    return (
        [case.compared("output", 0, f"the original does not run: {reason or once}")] if case.name == "example" else []
    )


def _compare_results(runs: _CaseRuns, expected: RunResult, actual: RunResult, *, gradients: bool) -> list[Comparison]:
    case, opened = runs.case, runs.rewritten.opened
    differences = _differences(expected, actual, opened)
    comparisons = [case.compared(what, *counted) for what, counted in differences.items()]
    if any(comparison.same is False for comparison in comparisons):
        repeated = _differences(expected, runs.run_original(gradients=gradients), opened)
        varying = {what for what, (_, difference) in repeated.items() if difference}
        comparisons = [
            replace(comparison, same=None, difference=_VARIES)
            if comparison.same is False and comparison.what in varying
            else comparison
            for comparison in comparisons
        ]
    if case.name != "again":
        comparisons.insert(1, runs.compare_values(gradients=gradients))
    return comparisons


_VARIES = "the original itself gives another each time it runs"


class _CaseRuns:
    """Runs copies of the models in one case, and keeps what is outside them as it was."""

    def __init__(self, model: nn.Module, rewritten: RewrittenModel, case: Case) -> None:
        self._model, self.rewritten, self.case = model, rewritten, case
        self._outside = ExternalState(model)

    def run_original(self, *, gradients: bool) -> RunResult:
        """Run a copy of the original."""
        copy = copy_to_run(self._model, self.rewritten.opened)
        # In a copy of the context, so that context variables that forward sets are the same before each run.
        return copy_context().run(self._run, copy, self.case.inputs.split, gradients=gradients)

    def run_rewritten(self, *, gradients: bool) -> RunResult:
        """Run a copy of the rewritten model."""
        copy = copy_to_run(self.rewritten.opened, self._model)
        return copy_context().run(self._run, copy, partial(self.case.inputs.split_for, copy), gradients=gradients)

    def original_fails(self, *, gradients: bool) -> bool:
        """Return whether the original fails now: its backward may be one that can be computed once."""
        try:
            self.run_original(gradients=gradients)
        except Exception:  # noqa: BLE001 - a model may raise anything
            return True
        return False

    def compare_values(self, *, gradients: bool) -> Comparison:
        """Compare every value. A value that varies between two eager runs is not compared."""
        compare = partial(
            compare_values_with_eager,
            self._model,
            self.rewritten.everywhere,
            self.case.inputs,
            self.case.training,
            seed=SEED,
        )
        try:
            compared = compare()
        except Exception:
            if not gradients:
                raise
            compared = compare(gradients=True)  # some models run only with gradients
        if compared.varying and not compared.differences:
            return replace(self.case.compared("values", 0, None), same=None, difference=_VARIES)
        return self.case.compared("values", compared.count, next(iter(compared.differences), None))

    def _run(self, copy: nn.Module, split: Split, *, gradients: bool) -> RunResult:
        set_mode(copy, self.case.training)
        inputs = self.case.inputs.example or {}
        with isolate_caches(self._model), self._outside.restart():
            if self.case.name == "again":
                run_once(copy, inputs, split, gradients=False)
            return run_once(copy, inputs, split, gradients=gradients)


def _differences(expected: RunResult, actual: RunResult, opened: nn.Module) -> dict[str, tuple[int, str | None]]:
    """Return for each property how many things were compared, and the first difference."""
    # The rewritten model has buffers and modules of its own, which the original has not.
    buffers = [(name, value) for name, value in actual.buffers if name in dict(expected.buffers)]
    modes = [(path, training) for path, training in actual.modes if path in dict(expected.modes)]
    expected_modes = [] if is_export(opened) else expected.modes
    return {
        "output": (len(expected.output) - 1, first_difference(expected.output, actual.output)),
        "random numbers": (len(expected.generators), first_difference(expected.generators, actual.generators)),
        "buffers": (len(expected.buffers), first_difference(expected.buffers, buffers)),
        "modes": (len(expected_modes), first_difference(expected_modes, modes) if expected_modes else None),
        "gradients": (len(expected.gradients), first_difference(expected.gradients, actual.gradients)),
        "hooks": _compare_hooks(expected.hooks, actual.hooks, opened),
    }


def _compare_hooks(
    expected: Counter[tuple[str, str]], actual: Counter[tuple[str, str]], opened: nn.Module
) -> tuple[int, str | None]:
    """Return how many hooks were compared, and the first difference in their calls.

    Of a graph, only hooks of leaves are compared: those of other modules were traced and are part of the graph.
    """
    is_leaf = leaf_rule(opened).is_leaf
    is_graph = trace_info(opened).front_end != "observed"
    count = 0
    for (path, kind), calls in expected.items():
        if not is_graph or is_leaf(opened, path):
            count += 1
            if actual[path, kind] != calls:
                return count, f"the {kind} of {path} fire {actual[path, kind]} times, not {calls}"
    return count, None
