"""A traced model that is cut in two at an operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import surgery
from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgery.types import Operation


class TwoParts:
    """Two parts that run one after the other, and have the buffers of both."""

    def __init__(self, head: nn.Module, tail: nn.Module) -> None:
        self._head, self._tail = head, tail

    def __call__(self, *inputs: Any) -> Any:
        return self._tail(*self._head(*inputs))

    def buffers(self) -> tuple[Tensor, ...]:
        return ()


def cut_in_two(traced: Any, operation: Operation) -> TwoParts | None:
    """The two parts, or None where a value can't cross."""
    try:
        tail = surgery.cut(traced, after=operation)
        return TwoParts(surgery.cut(traced, until=tail), tail)
    except SurgeryError as error:
        if not any(words in str(error) for words in ("share memory", "needs the value of", "is no tensor")):
            raise
        return None
