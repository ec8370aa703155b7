"""The oracle: every value of a graph against an eager run that clones each value as it is computed.

It is slow and obvious, so that faster ways to record values can be tested against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import getitem
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, fx

from surgery.eager.external_state import ExternalState
from surgery.eager.operation_observer import UNOBSERVABLE_KINDS, OperationObserver, run_observed
from surgery.eager.user_code import isolate_caches
from surgery.graph import (
    bitwise_equal,
    clone_inputs,
    copy_sharing_parameters,
    describe_difference,
    is_extractor,
    named_tensors,
    operation_nodes,
    set_mode,
)
from surgery.rewriting import insert, listening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from surgery.types import Operation

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
    model: nn.Module, opened: fx.GraphModule, inputs: Sequence[Any], *, training: bool | None, seed: int
) -> tuple[int, str | None]:
    """Return how many values of a rewritten model were compared with an eager run, and the first difference in words.

    Every operation is compared, with an extractor or without. Both run in train or eval mode, or in their
    current modes if `training` is None.
    Values of uninitialized memory, such as those of `torch.empty`, are left out.
    """
    everywhere = insert_everywhere(opened, training=training)
    count, differences = compare_values_with_eager(model, everywhere, inputs, training, seed=seed)
    return count, differences[0] if differences else None


def insert_everywhere(opened: fx.GraphModule, *, training: bool | None) -> fx.GraphModule:
    """Return a copy in train or eval mode (in the current mode for None) with an extractor after every operation."""
    opened = set_mode(copy_sharing_parameters(opened), training)
    nodes = operation_nodes(opened)
    return insert(
        opened, [operation for node, operation in nodes if not any(is_extractor(opened, user) for user in node.users)]
    )


def compare_values_with_eager(
    model: nn.Module, everywhere: fx.GraphModule, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[int, tuple[str, ...]]:
    """Return how many values were compared with an eager run, and all differences in words.

    `everywhere` is what `insert_everywhere` returned for the same mode.
    """
    recorded, eager = _run_both(model, everywhere, inputs, training, seed=seed)
    differences = (f"{o.path} ({o.source or o.kind}){difference}" for o, difference in _differences(recorded, eager))
    return len(recorded), tuple(differences)


def find_first_difference(
    model: nn.Module, traced: fx.GraphModule, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[Operation, str]:
    """Return the first operation of a graph whose value differs from the eager run's, and the difference in words.

    Raises StopIteration if there is none.
    """
    everywhere = insert_everywhere(traced, training=training)
    return next(_differences(*_run_both(model, everywhere, inputs, training, seed=seed)))


def _run_both(
    model: nn.Module, everywhere: fx.GraphModule, inputs: Sequence[Any], training: bool | None, *, seed: int
) -> tuple[list[_GraphValue], EagerValues]:
    """Run the graph and the model with the same random numbers, and return the values of each.

    The eager values have one more entry under the empty path: the inputs, and tensors that an earlier run stored
    outside the model, such as a grid. A graph may compute these again, where the eager run only reads them.
    """
    graph = everywhere.graph
    leaf_paths = {str(n.target) for n in graph.nodes if n.op == "call_module" and not is_extractor(everywhere, n)}
    functions = [node.target for node in graph.nodes if node.op == "call_function"]
    recorded = copy_sharing_parameters(everywhere)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        subject = set_mode(copy_sharing_parameters(model), training)
        arguments = clone_inputs(list(inputs))
        observer, outside = OperationObserver(leaf_paths), ExternalState(subject)
        with isolate_caches(subject), outside.preserve():
            run_observed(subject, observer, arguments, functions)
        torch.manual_seed(seed)
        graph_values = _record_graph_values(recorded, inputs)
    available = [tensor.detach() for _, tensor in named_tensors(clone_inputs(list(inputs)))]
    available += [value for place in outside.snapshots for value in place.values() if isinstance(value, Tensor)]
    return graph_values, {**observer.values, "": [available]}


def _record_graph_values(everywhere: fx.GraphModule, inputs: Sequence[Any]) -> list[_GraphValue]:
    """Run a graph with an extractor after every operation, and return the values that can be compared."""
    sources, scripted = _indexed_operations(everywhere), _scripted_operations(everywhere)
    values: list[_GraphValue] = []
    containers: set[str] = set()

    def listen(operation: Operation, value: Any) -> None:
        if not isinstance(value, Tensor):
            containers.add(operation.path)
        tensors = [tensor.detach().clone() for _, tensor in named_tensors(value)]
        if tensors and operation.kind not in UNOBSERVABLE_KINDS and operation.path not in scripted:
            values.append(_GraphValue(operation, tensors, sources.get(operation.path) in containers))

    with listening(everywhere, listen):
        everywhere(*clone_inputs(list(inputs)))
    return values


def _scripted_operations(opened: fx.GraphModule) -> set[str]:
    """Return the paths of calls of TorchScript modules, whose values an eager run can't observe."""
    return {
        operation.path
        for node, operation in operation_nodes(opened)
        if node.op == "call_module" and isinstance(opened.get_submodule(str(node.target)), torch.jit.ScriptModule)
    }


def _indexed_operations(opened: fx.GraphModule) -> dict[str, str]:
    """Return the paths of the operations that index another one's value, each with the path of the other."""
    paths = {node: operation.path for node, operation in operation_nodes(opened)}
    sources: dict[str, str] = {}
    for node, path in paths.items():
        if node.target is getitem:
            source = node.args[0]
            while isinstance(source, fx.Node) and is_extractor(opened, source):
                source = source.args[0]
            if isinstance(source, fx.Node) and source in paths:
                sources[path] = paths[source]
    return sources


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
