"""The module that is inserted after an operation and returns another value in its place."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import EditError
from surgery.graph import InsertedOperation, bitwise_equal, named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.types import Operation

EDIT = "edit"
"""The kind of the operation that an edited value is."""


class Change(Protocol):
    """Takes a tensor; returns another one of the same shape, dtype and device. It must not write to what it takes."""

    @property
    def text(self) -> str:
        """What it does, to be shown and recorded: ``zero:channels=0-15``."""
        ...

    def __call__(self, value: Tensor, /) -> Tensor: ...


class ActivationEdit(InsertedOperation):
    """Returns another value of the same shape, dtype and device in place of the value of one operation.

    Of a value with several tensors, each is changed. The value itself is not written to.
    """

    def __init__(self, operation: Operation, change: Change) -> None:
        """`operation` is the edited value, as `edited_operation` returns it."""
        super().__init__(operation)
        self.change = change

    def forward(self, value: Any) -> Any:
        """Return the edited value. Raises EditError if it has another shape, dtype or device than the value."""
        if isinstance(value, Tensor):
            return self._change(value)
        expected = len(list(named_tensors(value)))
        leaves, structure = pytree.tree_flatten(value)
        found = sum(isinstance(leaf, Tensor) for leaf in leaves)
        if found == 0 or found != expected:
            raise EditError(
                f"{self._edited} can't change a {type(value).__name__}, only tensors in tuples, lists and dicts"
            )
        return pytree.tree_unflatten(
            [self._change(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure
        )

    @property
    def _edited(self) -> str:
        return f"the edit of {self.operation.path[:-1]} ({self.change.text})"

    def _change(self, value: Tensor) -> Tensor:
        is_written = _watch_writes(value)
        edited = self.change(value)
        if is_written():
            raise EditError(f"{self._edited} writes to the value that it is given; return a new tensor")
        if not isinstance(edited, Tensor):
            raise EditError(f"{self._edited} returns {type(edited).__name__}, not a tensor")
        if (edited.shape, edited.dtype, edited.device) != (value.shape, value.dtype, value.device):
            raise EditError(
                f"{self._edited} returns {_describe(edited, value)}; it has to stay {_describe(value, edited)}"
            )
        # With other strides, the next operation may take another path, whose results differ in the last bits.
        has_strides = torch.compiler.is_compiling() or edited.stride() == value.stride()
        return edited if has_strides else _with_strides(edited, value.stride())

    def extra_repr(self) -> str:
        return f"{self.operation.path}: {self.change.text}"


def _watch_writes(value: Tensor) -> Callable[[], bool]:
    """Return a function that says whether a value has been written to since; False while a model is compiled."""
    if torch.compiler.is_compiling():
        return lambda: False
    if value.is_inference():  # it counts no versions
        kept = value.clone()
        return lambda: not bitwise_equal(kept, value)
    version = value._version  # noqa: SLF001
    return lambda: value._version != version  # noqa: SLF001


def _with_strides(tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return a tensor with other strides, unless they give an element several places."""
    if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, strides, strict=True)):
        return tensor
    return tensor.new_empty_strided(tensor.shape, strides).copy_(tensor)


def _describe(tensor: Tensor, other: Tensor) -> str:
    """Return the shape and dtype of a tensor, and its device if it differs from that of another one."""
    device = f" on {tensor.device}" if tensor.device != other.device else ""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}{device}"


def edited_operation(operation: Operation, *, before: str | None = None, name: str | None = None) -> Operation:
    """Return the operation that the edited value of an operation is: its path has a prime, ``up3.cat'``.

    `before` is the path of the edited value that this edit comes after, if the operation has been edited before.
    """
    path = before or operation.path
    is_leaf = operation.scopes[-1:] == (operation.path.partition("@")[0],)
    scopes = operation.scopes[:-1] if is_leaf else operation.scopes
    return replace(operation, name=name or f"{operation.name}_edit", path=f"{path}'", kind=EDIT, scopes=scopes)


def original_path(path: str) -> str:
    """Return the path of the operation that an edited value comes from: ``up3.cat`` for ``up3.cat''``."""
    return path.rstrip("'")


def find_edits(model: nn.Module) -> tuple[ActivationEdit, ...]:
    """Return the edits in a rewritten model, in no particular order."""
    return tuple(edit for module in model.modules() for edit in own_edits(module))


@singledispatch
def own_edits(module: nn.Module) -> tuple[ActivationEdit, ...]:
    """Return the edits of a module itself, not of its submodules."""
    return (module,) if isinstance(module, ActivationEdit) else ()
