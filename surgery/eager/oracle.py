"""The oracle: every value of a graph against an eager run that clones each value as it is computed.

It is slow and obvious, so that faster ways to record values can be tested against it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

from surgery.eager.example_inputs import bind_example
from surgery.eager.operation_observer import UNOBSERVABLE_KINDS
from surgery.eager.oracle_runs import OracleRuns
from surgery.graph import (
    Operations,
    bitwise_equal,
    copy_isolating_hooks,
    describe_difference,
    operations,
    set_mode,
    trace_info,
)
from surgery.rewriting import find_extractors, insert

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from surgery.eager.example_inputs import ExampleInputs
    from surgery.eager.oracle_runs import EagerValues, RecordedValue
    from surgery.types import Operation

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class ValueComparison:
    """The result of a comparison of every value with an eager run."""

    count: int
    """How many values were compared."""
    differences: tuple[str, ...]
    """All differences, in words."""
    varying: int
    """How many values are others in each eager run. They are not compared."""


def compare_with_eager(
    model: nn.Module, opened: nn.Module, inputs: Sequence[Any], *, training: bool | None, seed: int
) -> tuple[int, str | None]:
    """Return how many values of a rewritten model were compared with an eager run, and the first difference in words.

    Every operation is compared, with an extractor or without. Both run in train or eval mode, or in their
    current modes if `training` is None.
    Values of uninitialized memory, such as those of `torch.empty`, are left out.
    """
    everywhere = insert_everywhere(opened, training=training)
    bound = bind_example(model, tuple(inputs))
    compared = compare_values_with_eager(model, everywhere, bound, training, seed=seed)
    return compared.count, compared.differences[0] if compared.differences else None


def insert_everywhere(opened: M, *, training: bool | None) -> M:
    """Return a copy in train or eval mode (in the current mode for None) with an extractor after every operation."""
    opened = set_mode(copy_isolating_hooks(opened), training)
    extracted = {extractor.operation.path for extractor in find_extractors(opened)}
    chosen = Operations(operation for operation in operations(opened) if operation.path not in extracted)
    chosen.matches = _is_any  # for the operations that an observed model runs on other inputs only
    return insert(opened, chosen)


def _is_any(_operation: Operation) -> bool:
    return True


def compare_values_with_eager(
    model: nn.Module,
    everywhere: nn.Module,
    inputs: ExampleInputs,
    training: bool | None,
    *,
    seed: int,
    gradients: bool = False,
) -> ValueComparison:
    """Compare every value with an eager run, which computes with gradients if `gradients` is true.

    `everywhere` is what `insert_everywhere` returned for the same mode.
    """
    runs = OracleRuns(model, everywhere, inputs, training, seed, gradients)
    eager, recorded = runs.run_eagerly(), runs.record()
    differences = list(_differences(recorded, eager))
    missing: dict[str, str] = {}
    if trace_info(everywhere).front_end == "observed":
        missing = _missing_values(recorded, eager)
        if missing:  # what torch.compile runs may be seen in one run and not in the next
            again = _missing_values(runs.record(), eager)
            missing = {path: text for path, text in missing.items() if path in again}
        # The eager run of an observed model was observed in the same way. Hooks see the same values in another.
        hooked = runs.run_with_hooks()
        leaves = [value for value in recorded if (path := _module_path(value.operation)) and path in hooked]
        differences += [each for each in _differences(leaves, hooked) if each[0] not in dict(differences)]
    varying = _varying_paths(eager, runs.run_eagerly()) if differences or missing else set()
    # Nothing is known about a path that eager runs don't have, as of a function that a graph holds whole.
    unknown = {base_path(operation.path) for operation, _ in differences if varying} - eager.keys()
    found = [each for each in differences if base_path(each[0].path) not in varying | unknown]
    texts = [f"{operation.path} ({operation.source or operation.kind}){difference}" for operation, difference in found]
    texts += [difference for path, difference in missing.items() if path not in varying]
    return ValueComparison(len(recorded), tuple(texts), len(differences) + len(missing) - len(texts))


def find_first_difference(
    model: nn.Module, traced: nn.Module, inputs: ExampleInputs, training: bool | None, *, seed: int
) -> tuple[Operation, str]:
    """Return the first operation of a graph whose value differs from the eager run's, and the difference in words.

    Raises StopIteration if there is none.
    """
    runs = OracleRuns(model, insert_everywhere(traced, training=training), inputs, training, seed)
    eager = runs.run_eagerly()
    return next(_differences(runs.record(), eager))


def _missing_values(recorded: Sequence[RecordedValue], eager: EagerValues) -> dict[str, str]:
    """Return in words, by path, the values that were recorded less often than they were computed."""
    counts = Counter(base_path(value.operation.path) for value in recorded)
    return {
        path: f"{path} is recorded {counts[path]} times, not {len(runs)}"
        for path, runs in eager.items()
        if counts[path] < len(runs) and path and path.rpartition(".")[2] not in UNOBSERVABLE_KINDS
    }


def base_path(path: str) -> str:
    """Return the path of an operation without the number of its call: ``up2.cat`` for ``up2.cat@1``."""
    return path.partition("@")[0]


def _module_path(operation: Operation) -> str | None:
    """Return the path of the module that an operation calls; None for a function, whose path may look the same."""
    path = base_path(operation.path)
    return path if operation.scopes[-1:] == (path,) else None


def _varying_paths(some: EagerValues, others: EagerValues) -> set[str]:
    """Return the paths at which two eager runs have other values."""
    return {
        path
        for path in {**some, **others}
        if len(some.get(path, ())) != len(others.get(path, ()))
        or not all(_is_equal(one, other) for one, other in zip(some[path], others[path], strict=True))
    }


def _differences(recorded: Sequence[RecordedValue], eager: EagerValues) -> Iterator[tuple[Operation, str]]:
    """Yield in order the operations whose value differs from the eager run's at their path, and the differences.

    A Python function that a graph holds as one operation, such as `getattr`, is not observed; the operations inside it
    are observed instead. So a value of a path that was not observed is searched among all values, and values of a path
    that was observed may be skipped.
    """
    all_tensors = [tensor for runs in eager.values() for tensors in runs for tensor in tensors]
    positions = dict.fromkeys(eager, 0)
    for value in recorded:
        operation, tensors = value.operation, value.tensors
        path = base_path(operation.path)
        if value.is_item or path not in eager:
            if not all(any(bitwise_equal(tensor, other) for other in all_tensors) for tensor in tensors):
                yield operation, " gives what the eager run never gives"
            continue
        runs = eager[path]
        position = next((n for n in range(positions[path], len(runs)) if _is_equal(tensors, runs[n])), None)
        if position is None:
            yield operation, _describe_mismatch(tensors, runs, positions[path])
        else:
            positions[path] = position + 1


def _is_equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(bitwise_equal(one, other) for one, other in zip(some, others, strict=True))


def _describe_mismatch(tensors: Sequence[Tensor], runs: Sequence[Sequence[Tensor]], position: int) -> str:
    if position >= len(runs):
        return " runs more often than in the eager run"
    for one, other in zip(tensors, runs[position], strict=False):
        if not bitwise_equal(one, other):
            return f": {describe_difference(one, other)}"
    return " gives another number of tensors"
