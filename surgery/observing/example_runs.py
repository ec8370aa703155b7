"""Runs of copies of a model on its example, which leave the model and what is outside of it as they were."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import (
    ExampleError,
    collect_outcome,
    copy_parameters,
    describe_outcome_difference,
    isolate_caches,
    seed_generators,
    user_classes,
)
from surgery.errors import TraceError, first_line
from surgery.graph import bitwise_equal, clone_inputs, copy_isolating_hooks, run_model, set_mode, tensor_specs
from surgery.observing.parameter_guard import ParameterGuard
from surgery.observing.written_in_modes import may_write_in_one_mode, names_used

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from surgery.eager import ContainerSnapshot, ExampleInputs, ExternalState, RunOutcome


class ExampleRuns:
    """Runs of copies of a model. Each begins with the same parameters, the same state and the same random numbers."""

    def __init__(self, model: nn.Module, inputs: ExampleInputs, outside: ExternalState) -> None:
        self.model, self.inputs = model, inputs
        self._outside = outside
        self._written: list[nn.Parameter] = []
        """The parameters that forward writes to, as far as it is known."""
        self._is_known = False
        """Whether a run has shown which these are."""
        self._needs_gradients = False
        self._may_write_unseen = any("numpy" in names_used(kind) for kind in user_classes(model))
        """Whether forward may write to a parameter without torch, which no guard sees."""

    def copy_model(self, memo: dict[int, Any] | None = None, *, guarded: bool = False) -> nn.Module:
        """Return a copy of the model that shares its parameters, except those that forward writes to.

        As long as nothing is known about these, it shares none, unless it will run `guarded`. `memo` is filled with the
        copies by the identity of the original.
        """
        memo = {} if memo is None else memo
        shares_all = guarded and not self._may_write_unseen
        may_write = self._written if self._is_known or shares_all else self.model.parameters()
        memo.update(copy_parameters(may_write))
        return copy_isolating_hooks(self.model, memo)

    def run(self, copy: nn.Module | None = None) -> RunOutcome:
        """Run a copy of the model, by default a new one."""
        copy = copy or self.copy_model()
        with self.start(copy) as values:
            return self._collect(copy, values)

    def run_first(self) -> RunOutcome:
        """Run the model, and find out what it needs and what it writes to.

        Raises ExampleError if the model does not run on the example, and TraceError if no copy of it does what it does.
        """
        memo: dict[int, Any] = {}
        copy = self.copy_model(memo)
        try:
            outcome, left = self._run_noting_changes(copy, memo)
        except Exception as error:  # noqa: BLE001 - the model's code may raise anything
            self._needs_gradients = True  # as a model does that registers hooks on its tensors
            copy = self.copy_model(memo := {})
            try:
                outcome, left = self._run_noting_changes(copy, memo)
            except Exception:  # noqa: BLE001 - it does not run either way
                shapes = ", ".join(str(tuple(spec.shape)) for spec in tensor_specs(self.inputs.example))
                of_shape = f" of shape {shapes}" if shapes else ""
                raise ExampleError(f"the example{of_shape} does not run: {first_line(error)}") from error
        if not self._is_known:
            pairs = [(parameter, memo.get(id(parameter), parameter)) for parameter in self.model.parameters()]
            self._written = [parameter for parameter, copied in pairs if _is_written(parameter, copied)]
            self._is_known = True
        if left:
            self._check_not_read(outcome, left)
        return outcome

    def note_writes_in_other_mode(self) -> None:
        """Find out which parameters forward writes to in the mode that the model is not in, as a codebook that learns.

        This takes another run, of models alone whose code may do such a thing.
        """
        if not may_write_in_one_mode(self.model):
            return
        copies = copy_parameters(self.model.parameters())
        if any(id(parameter) not in copies for parameter in self.model.parameters()):
            return  # some can't be copied, or all take too much memory, and a run might write to them
        copy = set_mode(copy_isolating_hooks(self.model, {**copies}), not self.model.training)
        with suppress(Exception), self.start(copy) as values:  # it may not run in this mode
            self._collect(copy, values)
        known = {id(parameter) for parameter in self._written}
        for parameter in self.model.parameters():
            copied = copies.get(id(parameter), parameter)
            if id(parameter) not in known and _is_written(parameter, copied):
                self._written.append(parameter)

    @contextmanager
    def guard_parameters(self, copy: nn.Module) -> Iterator[ParameterGuard]:
        """Within the block, `copy` may write to the parameters that it shares, if the block tells the guard before.

        The first such run shows which parameters need copies in all others.
        """
        guard = ParameterGuard(copy.parameters())
        with guard.undo():
            yield guard
        if not self._is_known and not self._may_write_unseen:
            self._written, self._is_known = guard.written, True

    @contextmanager
    def start(self, copy: nn.Module) -> Iterator[dict[str, Any]]:
        """Within the block, `copy` may run on the inputs that the block receives."""
        with torch.set_grad_enabled(self._needs_gradients), isolate_caches(copy), self._outside.restart():
            values: dict[str, Any] = clone_inputs(self.inputs.example)
            with seed_generators(list(values.values())):
                yield values

    def _collect(self, copy: nn.Module, values: dict[str, Any]) -> RunOutcome:
        arguments, keywords = self.inputs.split(values)
        return collect_outcome(run_model(copy, arguments, keywords), copy)

    def _run_noting_changes(
        self, copy: nn.Module, memo: dict[int, Any]
    ) -> tuple[RunOutcome, list[tuple[ContainerSnapshot, dict[Any, Any]]]]:
        """Run a copy, and also return the dicts of the model itself that this has changed, with what it left there."""
        copied = self._copied_dicts(copy, memo)
        with self.start(copy) as values:
            outcome = self._collect(copy, values)
            changed = [snapshot for snapshot in self._outside.changed() if id(snapshot.container) in copied]
            return outcome, [(snapshot, dict(snapshot.container)) for snapshot in changed]

    def _check_not_read(self, expected: RunOutcome, left: list[tuple[ContainerSnapshot, dict[Any, Any]]]) -> None:
        """Raise TraceError if forward reads what a run of its copy leaves in the model itself.

        As with a hook that reaches the model by a global name: a copy of the model never sees what the hook stores.
        """
        memo: dict[int, Any] = {}
        copy = self.copy_model(memo)
        copied = self._copied_dicts(copy, memo)
        for snapshot, contents in left:
            before = snapshot.contents
            new = {key: value for key, value in contents.items() if key not in before or before[key] is not value}
            copied[id(snapshot.container)].update(new)
        if describe_outcome_difference(expected, self.run(copy)) and not describe_outcome_difference(
            expected, self.run()
        ):
            name = next((snapshot.name for snapshot, _ in left if snapshot.name), "the model")
            raise TraceError(
                f"{type(self.model).__name__} can't be observed: its code reaches the model by an outer name, and "
                f"writes to {name}, which forward reads; let hooks reach the module by their first argument"
            )

    def _copied_dicts(self, copy: nn.Module, memo: dict[int, Any]) -> dict[int, dict[Any, Any]]:
        """Return by identity the dicts of the model, attributes included, with their copies."""
        dicts = {key: value for key, value in memo.items() if type(value) is dict and id(value) != key}
        modules = zip(self.model.modules(), copy.modules(), strict=True)
        return dicts | {id(vars(module)): vars(copied) for module, copied in modules}


def _is_written(parameter: nn.Parameter, copied: nn.Parameter) -> bool:
    """Return whether a run of a copy has written to the copy of a parameter, which has no gradient before the run."""
    has_gradient = copied is not parameter and copied.grad is not None
    return has_gradient or not bitwise_equal(parameter, copied)
