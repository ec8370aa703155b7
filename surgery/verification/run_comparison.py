"""The original and the rewritten model, run on the same inputs in the same mode."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from surgery.eager import SEED, ExternalState, compare_values_with_eager, run_once
from surgery.errors import ModelError, first_line
from surgery.graph import copy_isolating_hooks, is_export, leaf_rule, set_mode, trace_info
from surgery.verification.certificate import Comparison
from surgery.verification.differences import first_difference

if TYPE_CHECKING:
    from collections import Counter

    from torch import nn

    from surgery.eager import RunResult

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
    inputs: tuple[Any, ...]

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
    runs = _CaseRuns(model, case)
    try:
        expected, gradients = runs.run_original()
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        is_example = case.name == "example"
        return [case.compared("output", 0, f"the original does not run: {first_line(error)}")] if is_example else []
    try:
        actual = runs.run(rewritten.opened, gradients=gradients)
    except ModelError as error:  # an exported graph takes no inputs of other sizes
        same = False if case.name == "example" else None
        return [Comparison("output", case.mode, case.name, same, 0, str(error))]
    except Exception as error:  # noqa: BLE001
        return [case.compared("output", 1, f"the original runs, the rewritten does not: {first_line(error)}")]
    differences = _differences(expected, actual, rewritten.opened)
    comparisons = [case.compared(what, *counted) for what, counted in differences.items()]
    if case.name != "again":
        comparisons.insert(1, _compare_values(model, rewritten, case))
    if all(comparison.same is not False for comparison in comparisons):
        return comparisons
    repeated = _differences(expected, runs.run(model, gradients=gradients), rewritten.opened)
    varying = {what for what, (_, difference) in repeated.items() if difference}
    return [
        replace(comparison, same=None, difference="the original itself gives another each time it runs")
        if comparison.same is False and comparison.what in varying
        else comparison
        for comparison in comparisons
    ]


class _CaseRuns:
    """Runs models in one case, and keeps what is outside them as it was."""

    def __init__(self, model: nn.Module, case: Case) -> None:
        self._model = model
        self._case = case
        self._external_state = ExternalState(model)

    def run_original(self) -> tuple[RunResult, bool]:
        """Return a run of the original, and whether gradients were computed: some models run only without."""
        if self._case.name == "example":
            with suppress(Exception):
                return self.run(self._model, gradients=True), True
        return self.run(self._model, gradients=False), False

    def run(self, module: nn.Module, *, gradients: bool) -> RunResult:
        """Run a copy of a module."""
        copy = set_mode(copy_isolating_hooks(module), self._case.training)
        with self._external_state.preserve():
            if self._case.name == "again":
                run_once(copy, self._case.inputs, gradients=False)
            return run_once(copy, self._case.inputs, gradients=gradients)


def _compare_values(model: nn.Module, rewritten: RewrittenModel, case: Case) -> Comparison:
    count, differences = compare_values_with_eager(model, rewritten.everywhere, case.inputs, case.training, seed=SEED)
    return case.compared("values", count, next(iter(differences), None))


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
