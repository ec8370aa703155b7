"""The node that is inserted: it returns the very object it got, and tells a listener about it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.types import Operation

    Listener = Callable[[Operation, Any], None]

V = TypeVar("V")


class ActivationExtractor(nn.Module):
    """Passes the value of one operation through, untouched; without a listener it does nothing else.

    A clone on this path would be wrong: the value may be a view that a later in-place operation is to write through.
    """

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.listener: Listener | None = None

    def forward(self, value: V) -> V:
        if self.listener is not None:
            # The next operation may work in place, so whoever wants the value takes it now.
            self.listener(self.operation, value)
        return value

    def extra_repr(self) -> str:
        return self.operation.path

    def __getstate__(self) -> dict[str, Any]:
        """A copy or a file has no listener: who listens is a matter of this process, and of a `with` block."""
        return {**vars(self), "listener": None}


def extractors(model: nn.Module) -> tuple[ActivationExtractor, ...]:
    """The extractors that were inserted into a model."""
    return tuple(module for module in model.modules() if isinstance(module, ActivationExtractor))


@contextmanager
def listening(model: nn.Module, listener: Listener) -> Iterator[None]:
    """Within the block, `listener(operation, value)` is called for each extractor of `model` that a run passes."""
    inserted = extractors(model)
    before = [extractor.listener for extractor in inserted]
    try:
        for extractor in inserted:
            extractor.listener = listener
        yield
    finally:
        for extractor, previous in zip(inserted, before, strict=True):
            extractor.listener = previous
