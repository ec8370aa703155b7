"""The module that is inserted after an operation: it returns the object it received, and tells a listener about it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

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


def find_extractors(model: nn.Module) -> tuple[ActivationExtractor, ...]:
    """Return the extractors that were inserted into a model."""
    return tuple(module for module in model.modules() if isinstance(module, ActivationExtractor))


@contextmanager
def listening(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Return a context manager; inside it, each extractor that runs calls ``listener(operation, value)``."""
    inserted = find_extractors(model)
    before = [extractor.listener for extractor in inserted]
    try:
        for extractor in inserted:
            extractor.listener = listener
        yield
    finally:
        for extractor, previous in zip(inserted, before, strict=True):
            extractor.listener = previous
