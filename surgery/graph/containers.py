"""The values inside Python's containers and inside objects of the user's classes."""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from surgery.graph.source_lines import is_user_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DEPTH = 8


def contained_values(value: Any) -> Iterable[Any]:
    """Return the items of a container (for a mapping also its keys), or the attributes of an object of a user's class.

    For any other value the result is empty.
    """
    kind = type(value)
    if issubclass(kind, Mapping):
        return [item for pair in list(value.items()) for item in pair]
    if issubclass(kind, (list, tuple, deque, AbstractSet)):
        return list(value)
    return list(vars(value).values()) if is_user_object(value) else ()


def is_user_object(value: Any) -> bool:
    """Whether a value has attributes and its class is neither of torch, nor of Python's library, nor of this project.

    Modules and classes are not such objects.
    """
    kind: Any = type(value)
    return is_users_class(kind) and has_attributes(value)


def has_attributes(value: object) -> bool:
    """Whether a value keeps its attributes in a dict, as objects of most classes do."""
    return type(getattr(value, "__dict__", None)) is dict


@functools.lru_cache(maxsize=4096)
def is_users_class(kind: type) -> bool:
    """Whether a class is neither of torch, nor of Python's library, nor of this project, nor a class of modules."""
    if issubclass(kind, (nn.Module, type)):
        return False
    return is_user_file(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<frozen")


def find_instances(value: Any, kinds: type | tuple[type, ...] = Tensor) -> Iterator[Any]:
    """Yield each tensor (or instance of `kinds`) in a value once, looking into containers and objects 8 levels deep."""
    seen: set[int] = set()
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if issubclass(type(item), kinds):
            yield item
        elif depth < _MAX_DEPTH:
            waiting.extend((part, depth + 1) for part in contained_values(item))
