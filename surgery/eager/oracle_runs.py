"""Runs of a model and of its traced model, and all values that were computed in them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from surgery.eager.external_state import ExternalState
from surgery.eager.operation_observer import (
    UNINITIALIZED_KINDS,
    UNOBSERVABLE_KINDS,
    OperationObserver,
    is_transformed,
    run_observed,
)
from surgery.eager.parameter_copies import copy_to_run
from surgery.eager.random_states import seed_torch
from surgery.eager.runs import clone_leaves
from surgery.eager.user_code import isolate_caches
from surgery.graph import clone_inputs, find_edges, leaf_rule, named_tensors, operations, set_mode
from surgery.rewriting import listening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from surgery.eager.example_inputs import ExampleInputs
    from surgery.eager.operation_observer import ObservedCall
    from surgery.graph import LeafRule
    from surgery.types import Operation

EagerValues: TypeAlias = "Mapping[str, list[list[Tensor]]]"
"""Path of an operation without ``@n`` -> for each eager call, the returned tensors."""


@dataclass(frozen=True, slots=True)
class RecordedValue:
    """The value of one operation of a traced model."""

    operation: Operation
    tensors: list[Tensor]
    is_item: bool
    """Whether it is an item of a tuple, list or dict. Python indexes these, which an eager run does not observe."""


class OracleRuns:
    """Runs of a model and of its traced model that begin with the same state and the same random numbers."""

    def __init__(
        self,
        model: nn.Module,
        everywhere: nn.Module,
        inputs: ExampleInputs,
        training: bool | None,
        seed: int,
        gradients: bool = False,
    ) -> None:
        self._model, self._everywhere = model, everywhere
        self._inputs, self._training, self._seed, self._gradients = inputs, training, seed, gradients
        self._outside = ExternalState(model)

    def run_eagerly(self) -> EagerValues:
        """Return the values of an eager run by path.

        Under the empty path are the inputs, and tensors that an earlier run stored in the model or outside it, such as
        a grid. A graph may compute these again, where the eager run only reads them.
        """
        return copy_context().run(self._run_eagerly)

    def run_with_hooks(self) -> EagerValues:
        """Return the values of leaves by path, as forward hooks find them in a run that nothing observes.

        Leaves that consist of modules are left out: torch's transformer leaves its fast path if it has a hook.
        """
        return copy_context().run(self._run_with_hooks)

    def record(self) -> list[RecordedValue]:
        """Return the values that the extractors of the traced model receive, if they can be compared."""
        return copy_context().run(self._record)

    def _run_eagerly(self) -> EagerValues:
        subject = self._copy_model()
        observer = _ValueRecorder()
        with self._start(subject) as values:
            arguments, keywords = self._inputs.split(values)
            run_observed(subject, observer, arguments, keywords, leaves=leaf_rule(self._everywhere))
        available = [tensor.detach() for _, tensor in named_tensors(clone_inputs(self._inputs.example))]
        available += [
            value for place in self._outside.snapshots for value in place.values() if isinstance(value, Tensor)
        ]
        return {**observer.values, "": [available]}

    def _run_with_hooks(self) -> EagerValues:
        subject = self._copy_model()
        seen: defaultdict[str, list[list[Tensor]]] = defaultdict(list)

        def keep(path: str, _module: nn.Module, _inputs: Any, value: Any) -> None:
            if not is_transformed():
                seen[path].append([tensor.detach().clone() for _, tensor in named_tensors(value)])

        for path, module in _find_leaves(subject, leaf_rule(self._everywhere)):
            if not any(module.children()):
                module.register_forward_hook(partial(keep, path))
        with self._start(subject) as values:
            arguments, keywords = self._inputs.split(values)
            subject(*arguments, **keywords)
        return seen

    def _record(self) -> list[RecordedValue]:
        traced = copy_to_run(self._everywhere, self._model)
        sources = _indexed_operations(traced)
        recorded: list[RecordedValue] = []
        inputs = self._inputs.example or {}
        containers = {name for name, value in inputs.items() if not isinstance(value, Tensor)}

        def listen(operation: Operation, value: Any) -> None:
            if not isinstance(value, Tensor):
                containers.add(operation.path)
            _initialize(operation.kind, value)
            tensors = [tensor.detach().clone() for _, tensor in named_tensors(value)]
            if tensors and operation.kind not in UNOBSERVABLE_KINDS:
                recorded.append(RecordedValue(operation, tensors, sources.get(operation.path) in containers))

        with self._start(self._model) as values, listening(traced, listen):
            arguments, keywords = self._inputs.split_for(traced, values)
            traced(*arguments, **keywords)
        return recorded

    def _copy_model(self) -> nn.Module:
        return set_mode(copy_to_run(self._model, self._everywhere), self._training)

    @contextmanager
    def _start(self, module: nn.Module) -> Iterator[dict[str, Any]]:
        """Within the block, a copy of a module may run on the inputs that the block receives, which are clones."""
        with (
            torch.set_grad_enabled(self._gradients),
            torch.random.fork_rng(),
            isolate_caches(module),
            self._outside.restart(),
        ):
            seed_torch(self._seed)
            # Clones again, since torch forbids writes to what requires gradients and was not computed.
            yield clone_inputs(clone_leaves(self._inputs.example, gradients=self._gradients))


class _ValueRecorder(OperationObserver):
    """Clones each value as it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.values: defaultdict[str, list[list[Tensor]]] = defaultdict(list)
        """Path of an operation without ``@n`` -> for each call, clones of the returned tensors."""

    def on_call(self, call: ObservedCall) -> Any:
        _initialize(call.kind, call.value)
        if tensors := [tensor.detach().clone() for _, tensor in named_tensors(call.value)]:
            self.values[call.path].append(tensors)
        return call.value


def _initialize(kind: str, value: Any) -> None:
    """Write zeros to memory that is not initialized, so that what a model reads of it is the same in each run."""
    if kind in UNINITIALIZED_KINDS:
        with torch.no_grad():
            for _, tensor in named_tensors(value):
                tensor.zero_()


def _find_leaves(model: nn.Module, rule: LeafRule) -> Iterator[tuple[str, nn.Module]]:
    """Yield the leaves of a model, without the modules inside of leaves, which are no operations."""
    inside: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if path and not path.startswith(inside) and rule.is_leaf(module, path):
            inside += (f"{path}.",)
            yield path, module


def _indexed_operations(opened: nn.Module) -> dict[str, str]:
    """Return the paths of the operations that index another one's value, each with the path of the other."""
    operands = find_edges(opened).operands
    return {
        operation.path: operands[operation.name][0].path
        for operation in operations(opened)
        if operation.kind == "getitem" and operands[operation.name]
    }
