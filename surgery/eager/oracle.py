"""The oracle: every value of a graph against an eager run that clones each value as it is computed.

It is slow and obvious, so that faster ways to record values can be tested against it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from surgery.eager.external_state import ExternalState
from surgery.eager.operation_observer import UNOBSERVABLE_KINDS, OperationObserver, run_observed
from surgery.eager.user_code import isolate_caches
from surgery.graph import (
    bitwise_equal,
    clone_inputs,
    copy_isolating_hooks,
    describe_difference,
    find_edges,
    leaf_rule,
    named_tensors,
    operations,
    set_mode,
)
from surgery.rewriting import find_extractors, insert, listening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from surgery.eager.operation_observer import ObservedCall
    from surgery.types import Operation

M = TypeVar("M", bound=nn.Module)

EagerValues: TypeAlias = "Mapping[str, list[list[Tensor]]]"
"""Path of an operation without ``@n`` -> for each eager call, the returned tensors."""


@dataclass(frozen=True, slots=True)
class _GraphValue:
    """The value of one operation of a graph."""

    operation: Operation
    tensors: list[Tensor]
    is_item: bool
    """Whether it is an item of a tuple, list or dict. Python indexes these, which an eager run does not observe."""


def compare_with_eager(
    model: nn.Module, opened: nn.Module, inputs: Sequence[Any], *, training: bool | None, seed: int
) -> tuple[int, str | None]:
    """Return how many values of a rewritten model were compared with an eager run, and the first difference in words.

    Every operation is compared, with an extractor or without. Both run in train or eval mode, or in their
    current modes if `training` is None.
    Values of uninitialized memory, such as those of `torch.empty`, are left out.
    """
    everywhere = insert_everywhere(opened, training=training)
    count, differences = compare_values_with_eager(model, everywhere, inputs, training, seed=seed)
    return count, differences[0] if differences else None


def insert_everywhere(opened: M, *, training: bool | None) -> M:
    """Return a copy in train or eval mode (in the current mode for None) with an extractor after every operation."""
    opened = set_mode(copy_isolating_hooks(opened), training)
    extracted = {extractor.operation.path for extractor in find_extractors(opened)}
    return insert(opened, [operation for operation in operations(opened) if operation.path not in extracted])


def compare_values_with_eager(
    model: nn.Module, everywhere: nn.Module, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[int, tuple[str, ...]]:
    """Return how many values were compared with an eager run, and all differences in words.

    `everywhere` is what `insert_everywhere` returned for the same mode.
    """
    recorded, eager = _run_both(model, everywhere, inputs, training, seed=seed)
    differences = (f"{o.path} ({o.source or o.kind}){difference}" for o, difference in _differences(recorded, eager))
    return len(recorded), tuple(differences)


def find_first_difference(
    model: nn.Module, traced: nn.Module, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[Operation, str]:
    """Return the first operation of a graph whose value differs from the eager run's, and the difference in words.

    Raises StopIteration if there is none.
    """
    everywhere = insert_everywhere(traced, training=training)
    return next(_differences(*_run_both(model, everywhere, inputs, training, seed=seed)))


def _run_both(
    model: nn.Module, everywhere: nn.Module, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[list[_GraphValue], EagerValues]:
    """Run the graph and the model with the same random numbers, and return the values of each.

    The eager values have one more entry under the empty path: the inputs, and tensors that an earlier run stored
    outside the model, such as a grid. A graph may compute these again, where the eager run only reads them.
    """
    recorded = copy_isolating_hooks(everywhere)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        subject = set_mode(copy_isolating_hooks(model), training)
        arguments = clone_inputs(list(inputs))
        observer, outside = _ValueRecorder(), ExternalState(subject)
        with isolate_caches(subject), outside.preserve():
            run_observed(subject, observer, arguments, leaves=leaf_rule(everywhere))
        torch.manual_seed(seed)
        graph_values = _record_graph_values(recorded, inputs)
    available = [tensor.detach() for _, tensor in named_tensors(clone_inputs(list(inputs)))]
    available += [value for place in outside.snapshots for value in place.values() if isinstance(value, Tensor)]
    return graph_values, {**observer.values, "": [available]}


class _ValueRecorder(OperationObserver):
    """Clones each value as it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.values: defaultdict[str, list[list[Tensor]]] = defaultdict(list)
        """Path of an operation without ``@n`` -> for each call, clones of the returned tensors."""

    def on_call(self, call: ObservedCall) -> None:
        if tensors := [tensor.detach().clone() for _, tensor in named_tensors(call.value)]:
            self.values[call.path].append(tensors)


def _record_graph_values(everywhere: nn.Module, inputs: Sequence[Any]) -> list[_GraphValue]:
    """Run a graph with an extractor after every operation, and return the values that can be compared."""
    sources = _indexed_operations(everywhere)
    values: list[_GraphValue] = []
    containers: set[str] = set()

    def listen(operation: Operation, value: Any) -> None:
        if not isinstance(value, Tensor):
            containers.add(operation.path)
        tensors = [tensor.detach().clone() for _, tensor in named_tensors(value)]
        if tensors and operation.kind not in UNOBSERVABLE_KINDS:
            values.append(_GraphValue(operation, tensors, sources.get(operation.path) in containers))

    with listening(everywhere, listen):
        everywhere(*clone_inputs(list(inputs)))
    return values


def _indexed_operations(opened: nn.Module) -> dict[str, str]:
    """Return the paths of the operations that index another one's value, each with the path of the other."""
    operands = find_edges(opened).operands
    return {
        operation.path: operands[operation.name][0].path
        for operation in operations(opened)
        if operation.kind == "getitem" and operands[operation.name]
    }


def _differences(recorded: Sequence[_GraphValue], eager: EagerValues) -> Iterator[tuple[Operation, str]]:
    """Yield in order the operations whose value differs from the eager run's at their path, and the differences.

    A Python function that a graph holds as one operation, such as `getattr`, is not observed; the operations inside it
    are observed instead. So a value of a path that was not observed is searched among all values, and values of a path
    that was observed may be skipped.
    """
    all_tensors = [tensor for runs in eager.values() for tensors in runs for tensor in tensors]
    positions = dict.fromkeys(eager, 0)
    for value in recorded:
        operation, tensors = value.operation, value.tensors
        path = operation.path.partition("@")[0]
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
