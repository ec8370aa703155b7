"""Telling a listener from within compiled code, where whatever Python does besides computing is dropped or frozen.

A custom operator is kept by `torch.compile` because it says that it writes to a tensor, `_TOKEN`; since all of them say
so, they stay in order. It only reads the value, at its place in the graph: so it sees the value as it was computed,
whatever is written in place later, and gradients pass by it untouched.
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


class Teller(Protocol):
    """Who takes a value when compiled code has computed it."""

    def tell(self, value: Any, /) -> None: ...


_TOKEN = torch.zeros(1)
_tellers: WeakValueDictionary[int, Teller] = WeakValueDictionary()
_numbers = itertools.count()


def registered(teller: Teller) -> int:
    """A number under which compiled code finds `teller` for as long as it lives."""
    number = next(_numbers)
    _tellers[number] = teller
    return number


def tell_from_compiled(number: int, value: Any) -> None:
    """Have the teller of a number told `value`, a tensor or a nest of tuples, lists and mappings, when the code runs.

    What in it is no tensor is told as None.
    """
    tensors: list[Tensor] = []
    structure = _taken_apart(value, tensors)
    if tensors:
        torch.ops.surgery.tell(tensors, _TOKEN, number, structure)


@torch.library.custom_op(
    "surgery::tell", mutates_args=("token",), schema="(Tensor[] tensors, Tensor(a!) token, int number, str form) -> ()"
)
def _tell(tensors: Sequence[Tensor], token: Tensor, number: int, form: str) -> None:  # noqa: ARG001 - see above
    teller = _tellers.get(number)
    if teller is not None:
        teller.tell(_put_together(ast.literal_eval(form), tensors))


def _taken_apart(value: Any, tensors: list[Tensor]) -> str:
    """The nest of a value as a Python literal, with the positions of its tensors, which are added to `tensors`."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return str(len(tensors) - 1)
    if isinstance(value, Mapping):
        return "{" + ", ".join([f"{key!r}: {_taken_apart(item, tensors)}" for key, item in value.items()]) + "}"
    if isinstance(value, tuple):
        return "(" + "".join([f"{_taken_apart(item, tensors)}, " for item in value]) + ")"
    if isinstance(value, list):
        return "[" + ", ".join([_taken_apart(item, tensors) for item in value]) + "]"
    return "None"


def _put_together(form: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(form, int):
        return tensors[form]
    if isinstance(form, dict):
        return {key: _put_together(item, tensors) for key, item in form.items()}
    if isinstance(form, (tuple, list)):
        return type(form)(_put_together(item, tensors) for item in form)
    return None
