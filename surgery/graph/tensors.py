"""The tensors in a nested value, and copies of it."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor, nn

from surgery.graph.containers import find_instances, has_attributes, is_users_class
from surgery.text import escape_surrogates
from surgery.types import TensorSpec

_Items: TypeAlias = Callable[[Any], Iterable[tuple[Any, Any]]]


def named_tensors(value: object, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Return each tensor in a value with its key: ``""``, ``"[0]"``, ``"[1][hidden]"``.

    It searches tuples, lists, mappings, dataclasses and the attributes of objects of a user's class, to any depth, and
    skips everything that is not a tensor. Each such object, for instance a cache of keys and values, is searched once.
    """
    if isinstance(value, Tensor):
        return iter(((key, value),))
    found: list[tuple[str, Tensor]] = []
    _collect(value, key, found, set())
    return iter(found)


def _collect(value: object, key: str, found: list[tuple[str, Tensor]], seen: set[int]) -> None:
    items_of = _items_of(type(value))
    if items_of is None:
        return
    if items_of is _attributes:  # objects may refer to each other
        if id(value) in seen:
            return
        seen.add(id(value))
    for name, item in items_of(value):
        if isinstance(item, Tensor):
            found.append((f"{key}[{escape_surrogates(str(name))}]", item))
        elif _items_of(type(item)) is not None:
            _collect(item, f"{key}[{escape_surrogates(str(name))}]", found, seen)


def _find_items_of(kind: Any) -> _Items | None:
    """Return what lists the items of a value of this class, each with its name; None if it is searched for none."""
    if issubclass(kind, Mapping):
        return _mapping_items
    if issubclass(kind, (tuple, list, deque)):
        return enumerate
    if is_dataclass(kind):
        return _fields
    return _attributes if is_users_class(kind) else None


_items_of: Callable[[Any], _Items | None] = lru_cache(maxsize=4096)(_find_items_of)


def _mapping_items(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items()  # type: ignore[no-any-return]


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    return ((field.name, getattr(value, field.name, None)) for field in fields(value))


def _attributes(value: Any) -> Iterable[tuple[str, Any]]:
    return list(vars(value).items()) if has_attributes(value) else ()


def tensor_specs(value: object) -> tuple[TensorSpec, ...]:
    """Return the key, shape and dtype of each tensor in a value."""
    return tuple(
        TensorSpec(key, _shape(tensor), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in named_tensors(value)
    )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor; that of a nested tensor of the strided layout, which has none, is empty."""
    return () if tensor.is_nested and tensor.layout is torch.strided else tuple(tensor.shape)


def storage_id(tensor: Tensor) -> int | None:
    """Return the identity of a tensor's memory; None for a kind of tensor that has none."""
    try:
        return tensor.untyped_storage()._cdata  # type: ignore[no-any-return]  # noqa: SLF001
    except (NotImplementedError, RuntimeError):
        return None


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
    """Return an input for a model that may write to it: tensors are cloned, and all that holds them is copied.

    Random generators are cloned with their state. A tensor that is given several times stays one tensor, since a model
    may ask whether ``query is key``. An object of another class, such as a cache that the model fills, is copied as
    `copy.deepcopy` does it, without the modules that it refers to; one that can't be copied stays as it is.
    """
    return _clone_inputs(value, {})


def _clone_inputs(value: Any, clones: dict[int, Any]) -> Any:
    if isinstance(value, (Tensor, Generator)):
        if id(value) not in clones:
            clones[id(value)] = value.clone() if isinstance(value, Tensor) else value.clone_state()
        return clones[id(value)]
    if type(value) in (list, tuple):
        return type(value)(_clone_inputs(item, clones) for item in value)
    if type(value) is dict:
        return {name: _clone_inputs(item, clones) for name, item in value.items()}
    if _items_of(type(value)) is None:
        return value
    for part in find_instances(value, (Tensor, nn.Module)):
        clones.setdefault(id(part), part.clone() if isinstance(part, Tensor) else part)
    try:
        return copy.deepcopy(value, clones)
    except Exception:  # noqa: BLE001 - an object may forbid it in its own way
        return value
