"""The observer of a run with extractors: it gives each value to the extractor of its operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, nn

from surgery.eager import ObservedCall, OperationObserver
from surgery.graph import named_tensors
from surgery.observing.observed_calls import make_operation

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
    """Numbers the operations of one run, and passes their values to extractors."""

    def __init__(self, observation: Observation, listener: CallListener | None = None) -> None:
        super().__init__()
        self._listener = listener
        self._observation = observation
        self._extractors = observation.extractors
        self._bases = {path.partition("@")[0] for path in self._extractors}
        self._calls: Counter[str] = Counter()
        self.has_stopped = False
        """Whether the run is at its end. The model may catch `StopRun` and go on, but nothing more is extracted."""
        self._new_operations = 0
        """The number of selected operations in this run that the run of the example did not have."""
        self._waiting = set(self._extractors) if observation.stops_early else None

    def on_call(self, call: ObservedCall) -> None:
        if self.has_stopped:
            return
        path, value, new = call.path, call.value, self._observation.new_operations
        if new is None and self._listener is None and path not in self._bases:
            return
        if not (isinstance(value, Tensor) or has_tensors(value)):
            return
        number = self._calls[path]
        self._calls[path] += 1
        if number:
            path = f"{path}@{number}"
        if self._listener is not None:
            self._listener(path, call)
        extractor = self._extractors.get(path)
        if extractor is not None:
            extractor(value)
            if self._waiting is not None:
                self._waiting.discard(path)
                if not self._waiting:
                    self.has_stopped = True
                    raise StopRun
        elif new is not None and path not in new.known_paths:
            operation = make_operation(self, call, path, new.first_index + self._new_operations)
            self._new_operations += new.receive(replace(operation, is_new=True), value)


def has_tensors(value: Any) -> bool:
    """Return whether there is a tensor in a value."""
    return any(True for _ in named_tensors(value))
