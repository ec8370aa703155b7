"""The operations of an eager run in order, with their shapes and whether they are constants."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import torch

from surgery.eager import OperationObserver
from surgery.graph import find_user_line, format_location, named_tensors, tensor_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

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

    def __init__(self, leaf_paths: set[str], sources: Sequence[Tensor]) -> None:
        """`sources` are the inputs, parameters and buffers of the run."""
        super().__init__(leaf_paths)
        self.operations: list[ObservedOperation] = []
        self._computed = WeakValueDictionary({id(tensor): tensor for tensor in sources})
        """The tensors that depend on the sources, by identity, as long as they exist."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        arguments = [tensor for _, tensor in named_tensors([args, kwargs or {}])]
        is_computed = any(id(tensor) in self._computed for tensor in arguments)
        value = func(*args, **(kwargs or {}))
        if is_computed:
            self._add_computed(value)
            if arguments and func.__name__ in _WRITING_TO_FIRST:
                self._computed[id(arguments[0])] = arguments[0]
        if not self.running_leaves:
            self._add_operation(self.path_of(func), value, is_computed=is_computed)
        return value

    def on_value(self, path: str, value: Any) -> None:
        """Record the value of a leaf."""
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            self._add_computed(value)
            self._add_operation(path, value, is_computed=True)

    def _add_operation(self, path: str, value: Any, *, is_computed: bool) -> None:
        if shapes := shapes_of(tensor_specs(value)):
            source = format_location(find_user_line(sys._getframe(2)))  # noqa: SLF001
            self.operations.append(ObservedOperation(path, shapes, source, is_computed))

    def _add_computed(self, value: Any) -> None:
        for _, tensor in named_tensors(value):
            self._computed[id(tensor)] = tensor


_WRITING_TO_FIRST = {"__setitem__", "copy_"}
"""Functions that make their first argument depend on the others without returning it."""
