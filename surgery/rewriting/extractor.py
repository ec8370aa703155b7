"""The module that is inserted after an operation: it returns the object it received, and tells a listener about it."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import singledispatch
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from surgery.errors import TraceError
from surgery.graph import InsertedModule
from surgery.rewriting.custom_operator import notify_from_compiled, register_receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.types import Operation

    Listener = Callable[[Operation, Any], None]

V = TypeVar("V")


class ActivationExtractor(InsertedModule):
    """Returns the value of one operation unchanged, and passes it to its listener if it has one.

    It must not return a clone: the value may be a view through which a later in-place operation writes.
    """

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.listener: Listener | None = None
        self.number = register_receiver(self)

    def forward(self, value: V) -> V:
        if torch.compiler.is_exporting():
            raise TraceError(
                f"torch.export would drop the value of {self.operation.path}; export surgery.as_outputs(model), which "
                "returns it"
            )
        if self.listener is not None:
            if torch.compiler.is_compiling():
                notify_from_compiled(self.number, value)
            else:
                self.receive(value)
        return value

    def receive(self, value: Any, /) -> None:
        """Pass a value to the listener, which must use it at once: the next operation may overwrite it."""
        if self.listener is not None:
            self.listener(self.operation, value)

    def extra_repr(self) -> str:
        return self.operation.path

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the listener, which belongs to a ``with`` block of this process."""
        return {**vars(self), "listener": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = register_receiver(self)


class NewOperationExtractor:
    """Receives the values of operations that an observed model runs, and that the run of its example did not have."""

    def __init__(self, matches: Callable[[Operation], bool]) -> None:
        """Those operations are extracted that match."""
        self.matches = matches
        self.listener: Listener | None = None

    def receive(self, operation: Operation, value: Any) -> bool:
        """Pass the value of a new operation to the listener if it is selected, and return whether it is."""
        if not self.matches(operation):
            return False
        if self.listener is not None:
            self.listener(operation, value)
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the listener, which belongs to a ``with`` block of this process."""
        return {**vars(self), "listener": None}


@singledispatch
def own_receivers(module: nn.Module) -> tuple[ActivationExtractor | NewOperationExtractor, ...]:
    """Return what receives values in a module itself, not in its submodules."""
    return (module,) if isinstance(module, ActivationExtractor) else ()


def find_extractors(model: nn.Module) -> tuple[ActivationExtractor, ...]:
    """Return the extractors that were inserted into a model."""
    return tuple(each for each in _find_receivers(model) if isinstance(each, ActivationExtractor))


def _find_receivers(model: nn.Module) -> Iterator[ActivationExtractor | NewOperationExtractor]:
    for module in model.modules():
        yield from own_receivers(module)


_locks: WeakKeyDictionary[ActivationExtractor | NewOperationExtractor, RLock] = WeakKeyDictionary()


@contextmanager
def listening(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Return a context manager; inside it, each extractor that runs calls ``listener(operation, value)``.

    Another thread that listens to the same extractors waits until the block ends.
    """
    inserted = list(_find_receivers(model))
    with _locks.setdefault(inserted[0], RLock()) if inserted else nullcontext():
        before = [receiver.listener for receiver in inserted]
        try:
            for receiver in inserted:
                receiver.listener = listener
            yield
        finally:
            for receiver, previous in zip(inserted, before, strict=True):
                receiver.listener = previous
