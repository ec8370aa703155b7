"""The operations of an eager run in order, with their shapes and whether they are constants."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from surgery.eager import OperationObserver
from surgery.graph import find_user_line, format_location, named_tensors, tensor_specs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.eager import ObservedCall
    from surgery.types import TensorSpec

Shapes: TypeAlias = "tuple[tuple[tuple[int, ...], str], ...]"
"""For each tensor of a value, its shape and the name of its dtype."""


def shapes_of(tensors: Sequence[TensorSpec]) -> Shapes:
    """Return the shapes and dtypes of tensors."""
    return tuple((tensor.shape, tensor.dtype) for tensor in tensors)


@dataclass(frozen=True, slots=True)
class ObservedOperation:
    """An operation that returned tensors in an eager run."""

    path: str
    """The path without ``@n``."""
    shapes: Shapes
    source: str | None
    """The user's line: ``models/unet.py:41``."""
    is_computed: bool = True
    """Whether it depends on inputs, parameters or buffers. Otherwise a graph may hold its value as a constant."""


class OrderObserver(OperationObserver):
    """Records the operations of a run in their order, instead of their values."""

    def __init__(self, sources: Sequence[Tensor]) -> None:
        """`sources` are the inputs, parameters and buffers of the run."""
        super().__init__()
        self.operations: list[ObservedOperation] = []
        self._computed = WeakValueDictionary({id(tensor): tensor for tensor in sources})
        """The tensors that depend on the sources, by identity, as long as they exist."""

    def on_call(self, call: ObservedCall) -> Any:
        """Record an operation. Leaves may depend on parameters of their own, so they count as computed."""
        arguments = [tensor for _, tensor in named_tensors([call.args, call.kwargs])]
        is_computed = call.is_module or any(id(tensor) in self._computed for tensor in arguments)
        if is_computed:
            for _, tensor in named_tensors(call.value):
                self._computed[id(tensor)] = tensor
            if arguments and call.kind in _WRITING_TO_FIRST:
                self._computed[id(arguments[0])] = arguments[0]
        if shapes := shapes_of(tensor_specs(call.value)):
            source = format_location(find_user_line(sys._getframe(2)))  # noqa: SLF001
            self.operations.append(ObservedOperation(call.path, shapes, source, is_computed))
        return call.value


_WRITING_TO_FIRST = {"setitem", "copy"}
"""Kinds of operations that make their first argument depend on the others without returning it."""
