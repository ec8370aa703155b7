"""A custom PyTorch operator through which compiled code hands activations to Python.

`torch.compile` drops or freezes whatever Python does besides computing. It keeps this operator because the operator
declares that it writes to a tensor, `_TOKEN`. All calls declare the same tensor, so they also stay in order. The
operator only reads the activation, at its place in the graph: it sees the value before any later in-place operation,
and gradients pass by it unchanged.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence


class ValueReceiver(Protocol):
    """An object that accepts a value as soon as compiled code has computed it."""

    def receive(self, value: Any, /) -> None: ...


_TOKEN = torch.zeros(1)
_receivers: WeakValueDictionary[int, ValueReceiver] = WeakValueDictionary()
_numbers = itertools.count()


def register_receiver(receiver: ValueReceiver) -> int:
    """Return a new number by which compiled code finds `receiver` while it is alive."""
    number = next(_numbers)
    _receivers[number] = receiver
    return number


def notify_from_compiled(number: int, value: Any) -> None:
    """Emit an operator that passes `value` to the receiver with this number each time the compiled code runs.

    `value` is a tensor or a nest of tuples, lists and mappings. Anything else in the nest arrives as None.
    """
    tensors: list[Tensor] = []
    structure = _flatten(value, tensors)
    if tensors:
        torch.ops.surgery.notify(tensors, _TOKEN, number, structure)


@torch.library.custom_op(
    "surgery::notify",
    mutates_args=("token",),
    schema="(Tensor[] tensors, Tensor(a!) token, int number, str structure) -> ()",
)
def _notify(tensors: Sequence[Tensor], token: Tensor, number: int, structure: str) -> None:  # noqa: ARG001 - see above
    receiver = _receivers.get(number)
    if receiver is not None:
        receiver.receive(_unflatten(ast.literal_eval(structure), tensors))


def _flatten(value: Any, tensors: list[Tensor]) -> str:
    """Append the tensors of a nest to `tensors`; return the nest as a Python literal with their positions in it."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return str(len(tensors) - 1)
    if isinstance(value, Mapping):
        return "{" + ", ".join([f"{key!r}: {_flatten(item, tensors)}" for key, item in value.items()]) + "}"
    if isinstance(value, tuple):
        return "(" + "".join([f"{_flatten(item, tensors)}, " for item in value]) + ")"
    if isinstance(value, list):
        return "[" + ", ".join([_flatten(item, tensors) for item in value]) + "]"
    return "None"


def _unflatten(structure: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(structure, int):
        return tensors[structure]
    if isinstance(structure, dict):
        return {key: _unflatten(item, tensors) for key, item in structure.items()}
    if isinstance(structure, (tuple, list)):
        return type(structure)(_unflatten(item, tensors) for item in structure)
    return None
