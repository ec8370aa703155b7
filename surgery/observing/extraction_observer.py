"""The observer of a run with extractors and edits: it gives each value to the extractor of its operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, nn

from surgery.eager import ObservedCall, OperationObserver
from surgery.graph import named_tensors, storage_id
from surgery.observing.edited_memory import EditedMemory
from surgery.observing.observed_calls import make_operation
from surgery.rewriting import EDIT, ActivationEdit, edited_operation, original_path, writes_to_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.observing.observation import Observation

CallListener: TypeAlias = Callable[[str, ObservedCall], None]
"""Receives the path of an operation, with the number of the call, and the call."""

_listener: ContextVar[tuple[nn.Module, CallListener | None] | None] = ContextVar("_listener", default=None)


@contextmanager
def listening_to_calls(model: nn.Module, listener: CallListener | None) -> Iterator[None]:
    """Within the block, `listener` receives each call of an observed model's runs in this thread.

    It receives a call that computes tensors before the extractor of the operation does.
    """
    token = _listener.set((model, listener))
    try:
        yield
    finally:
        _listener.reset(token)


def call_listener(model: nn.Module) -> CallListener | None:
    """Return what listens to the calls of an observed model in this thread."""
    listened, listener = _listener.get() or (None, None)
    return listener if listened is model else None


class StopRun(BaseException):
    """Raised inside a run when every extractor has received its value. It is no error of the model."""


class ExtractionObserver(OperationObserver):
    """Numbers the operations of one run, and passes their values to extractors and edits."""

    def __init__(self, model: nn.Module, observation: Observation, listener: CallListener | None = None) -> None:
        super().__init__()
        self._listener = listener
        self._model = model
        self._observation = observation
        self._extractors = observation.extractors
        self._edits = observation.edits
        self._bases = {original_path(path).partition("@")[0] for path in (*self._extractors, *self._edits)}
        self._calls: Counter[str] = Counter()
        self.has_stopped = False
        """Whether the run is at its end. The model may catch `StopRun` and go on, but nothing more is extracted."""
        self._handles_new = observation.new_operations is not None or bool(observation.new_edits)
        self._known_paths = observation.known_paths if self._handles_new else frozenset()
        self._new_operations = 0
        """The number of selected operations in this run that the run of the example did not have."""
        self._waiting = set(self._extractors) if observation.stops_early else None
        self._finds_writes = bool(self._edits or observation.new_edits)
        self._memory = EditedMemory()
        self._state: dict[int | None, str] = {}
        """The names of parameters and buffers by the identity of their memory, if there are edits."""
        if self._finds_writes:
            named = (*model.named_parameters(), *model.named_buffers())
            self._state = {storage_id(tensor): name for name, tensor in named}

    def on_call(self, call: ObservedCall) -> Any:
        """Pass a value to its extractor, and return it, or what an edit gives in its place."""
        if self.has_stopped:
            return call.value
        self._memory.check_call(call)
        path, value = call.path, call.value
        if not self._handles_new and self._listener is None and path not in self._bases:
            return value
        if not (isinstance(value, Tensor) or has_tensors(value)):
            return value
        number = self._calls[path]
        self._calls[path] += 1
        if number:
            path = f"{path}@{number}"
        if self._listener is not None:
            self._listener(path, call)
        if self._handles_new and path not in self._known_paths:
            return self._pass_new(path, call)
        self._extract(path, value)
        for edit in self._edits.get(path, ()):
            value = self._edit(edit, value, call)
            self._extract(edit.operation.path, value)
        return value

    def check_output(self, output: Any) -> None:
        """Raise EditError if the output has memory that lacks what was written to an edited value."""
        self._memory.check_reads(tensor for _, tensor in named_tensors(output))

    def _extract(self, path: str, value: Any) -> None:
        extractor = self._extractors.get(path)
        if extractor is None:
            return
        extractor(value)
        if self._waiting is not None:
            self._waiting.discard(path)
            if not self._waiting:
                self.has_stopped = True
                raise StopRun

    def _edit(self, edit: ActivationEdit, value: Any, call: ObservedCall) -> Any:
        """Return what the model gets in place of a value: a new one, or the same with other values in its memory.

        What a call has written to is known to the model by other names too, and all of them have the edited value.
        Torch refuses to compute gradients then, if those of the call need the value that it computed.
        """
        edited = edit(value)
        if self._listener is not None:
            path = edit.operation.path
            self._listener(path, ObservedCall(path, EDIT, edited, (value,), {}))
        if not self._works_in_place(call):
            self._memory.add(original_path(edit.operation.path), value, edited, call)
            return edited
        if (name := self._state.get(storage_id(value))) is not None:
            raise writes_to_state(replace(edit.operation, path=original_path(edit.operation.path)), name)
        return value.copy_(edited)

    def _works_in_place(self, call: ObservedCall) -> bool:
        """Return whether a call returned one of its arguments, to which it wrote, or would write in train mode."""
        if any(call.value is written for written in call.written):
            return True
        module = self._model.get_submodule(call.path) if call.is_module else None
        may_write = call.kwargs.get("inplace") is True or getattr(module, "inplace", False)
        return may_write and any(call.value is argument for argument in (*call.args, *call.kwargs.values()))

    def _pass_new(self, path: str, call: ObservedCall) -> Any:
        """Extract and edit the value of an operation that the run of the example did not have, if it is selected."""
        observation, value, new = self._observation, call.value, self._observation.new_operations
        index = observation.first_new_index + self._new_operations
        operation = replace(make_operation(self, call, path, index), is_new=True)
        changes = [each.make_change(operation) for each in observation.new_edits if each.matches(operation)]
        self._new_operations += (new is not None and new.receive(operation, value)) or bool(changes)
        for change in changes:
            operation = edited_operation(operation)
            value = self._edit(ActivationEdit(operation, change), value, call)
            if new is not None:
                new.receive(operation, value)
        return value


def has_tensors(value: Any) -> bool:
    """Return whether there is a tensor in a value."""
    return any(True for _ in named_tensors(value))
