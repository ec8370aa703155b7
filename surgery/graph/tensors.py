"""The tensors in a nested value, and copies of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from surgery.text import escape_surrogates


def named_tensors(value: object, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor in a value with its key: ``""``, ``"[0]"``, ``"[1][hidden]"``.

    It searches tuples, lists, mappings and dataclasses, to any depth, and skips everything that is not a tensor.
    """
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from named_tensors(item, f"{key}[{escape_surrogates(str(name))}]")
    elif isinstance(value, (tuple, list)):
        for position, item in enumerate(value):
            yield from named_tensors(item, f"{key}[{position}]")
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from named_tensors(getattr(value, field.name), f"{key}[{field.name}]")


def clone_tensors(value: Any) -> Any:
    """Return a value with its tensors cloned; tuples, lists and mappings in it become plain ones."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {name: clone_tensors(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return (tuple if isinstance(value, tuple) else list)([clone_tensors(item) for item in value])
    return value


def clone_inputs(value: Any) -> Any:
    """Return an input for a model that may write to it: tensors are cloned, and lists, tuples and dicts copied.

    A tensor that is given several times stays one tensor, since a model may ask whether ``query is key``.
    """
    return _clone_inputs(value, {})


def _clone_inputs(value: Any, clones: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor):
        if id(value) not in clones:
            clones[id(value)] = value.clone()
        return clones[id(value)]
    if type(value) in (list, tuple):
        return type(value)(_clone_inputs(item, clones) for item in value)
    return {name: _clone_inputs(item, clones) for name, item in value.items()} if type(value) is dict else value
