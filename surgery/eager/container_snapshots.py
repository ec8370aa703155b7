"""Snapshots of Python containers, which detect and undo changes."""

from __future__ import annotations

import functools
import sys
from collections import deque
from dataclasses import dataclass
from itertools import repeat, zip_longest
from operator import is_
from types import CellType
from typing import TYPE_CHECKING, Any
from weakref import ref

from torch import Tensor, fx

from surgery.graph import find_instances, is_user_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONTAINER_TYPES = (dict, list, set, deque, CellType, type)
"""Types of containers that can be changed; objects with slots are containers too."""

_ABSENT = object()
_PLAIN_TYPES = (int, float, complex, str, bytes, type(None))
_FIXED_CLASS_ATTRIBUTES = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__abstractmethods__"}
"""Attributes of a class that no run changes, or that can't be assigned."""


@dataclass(frozen=True, slots=True)
class ContainerSnapshot:
    """A container and a shallow copy of its contents."""

    name: str
    """The container as a user would write it: ``FEATURES``, ``Net.cache``; empty for the global names of a module."""
    container: Any
    contents: Any
    """A dict, list or set."""
    is_complete: bool = True
    """Whether `contents` has all entries of the container; for a module's global names it has only some."""

    def values(self) -> Iterable[Any]:
        """Return the container's original values, without the contents of nested containers."""
        return self.contents.values() if isinstance(self.contents, dict) else self.contents

    def is_untouched(self) -> bool:
        """Return whether the container has the very same entries. For the usual containers this takes no copy."""
        container, contents, kind = self.container, self.contents, type(self.container)
        if kind is CellType:
            try:
                return bool(contents) and container.cell_contents is contents[0]
            except ValueError:  # the cell is empty
                return not contents
        if kind is dict or isinstance(container, type):
            names = container if kind is dict else vars(container)
            others = 0 if kind is dict else sum(map(names.__contains__, _FIXED_CLASS_ATTRIBUTES))
            has_same_length = not self.is_complete or len(names) == len(contents) + others
            return has_same_length and all(map(is_, map(names.get, contents, repeat(_ABSENT)), contents.values()))
        if kind is list or kind is deque:
            return len(container) == len(contents) and all(map(is_, container, contents))
        return all(old is new for old, new in self._entry_pairs())

    def has_changed(self, *, plain_values: bool = False) -> bool:
        """Return whether tensors or proxies have been added, replaced or removed since the snapshot.

        With `plain_values`, also whether numbers, texts or None have.
        """
        if self.is_untouched():
            return False
        kinds = (Tensor, fx.Proxy, *_PLAIN_TYPES) if plain_values else (Tensor, fx.Proxy)
        pairs = [(old, new) for old, new in self._entry_pairs() if old is not new]
        return any(_holds(value, kinds) for pair in pairs for value in pair)

    def changed_numbers(self) -> list[str]:
        """Return the names of the entries that were a number or a text, and are another one now."""
        if self.is_untouched():
            return []
        contents, current = self.contents, self._current_contents()
        if not isinstance(contents, dict):
            pairs = zip(contents, current, strict=False) if isinstance(contents, list) else ()
            return [self.name for old, new in pairs if _is_other_number(old, new)]
        changed = [key for key, old in contents.items() if key in current and _is_other_number(old, current[key])]
        return [f"{self.name}.{key}" if self.name else str(key) for key in changed]

    def restore(self) -> None:
        """Put the contents back."""
        container, contents = self.container, self.contents
        if isinstance(container, CellType):
            if contents:
                container.cell_contents = contents[0]
            else:
                del container.cell_contents
        elif isinstance(contents, dict):
            self._restore_entries()
        else:
            container.clear()
            container.update(contents) if isinstance(container, set) else container.extend(contents)

    def _restore_entries(self) -> None:
        container, contents, current = self.container, self.contents, self._current_contents()
        is_dict = isinstance(container, dict)
        assign = container.__setitem__ if is_dict else functools.partial(setattr, container)
        remove = container.pop if is_dict else functools.partial(delattr, container)
        for key in {**contents, **current}:
            if key not in contents:
                remove(key)
            elif current.get(key, _ABSENT) is not contents[key]:
                assign(key, contents[key])

    def _current_contents(self) -> Any:
        current = copy_contents(self.container)
        return current if self.is_complete else {key: current[key] for key in self.contents if key in current}

    def _entry_pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yield the old and the new value of each entry; for a set, each value that was added or removed."""
        contents, current = self.contents, self._current_contents()
        if isinstance(contents, dict):
            yield from ((contents.get(key, _ABSENT), current.get(key, _ABSENT)) for key in {**contents, **current})
        elif isinstance(contents, set):
            yield from ((_ABSENT, item) for item in contents ^ current)
        else:
            yield from zip_longest(contents, current, fillvalue=_ABSENT)


def copy_contents(container: Any) -> Any:
    """Return a shallow copy of a container's contents as a dict, list or set."""
    if isinstance(container, CellType):
        try:
            return [container.cell_contents]
        except ValueError:  # the cell is empty
            return []
    if isinstance(container, type):
        return {name: value for name, value in vars(container).items() if name not in _FIXED_CLASS_ATTRIBUTES}
    if isinstance(container, dict):
        return dict(container)
    if has_slots(container):
        return {name: getattr(container, name) for name in _slot_names(container) if hasattr(container, name)}
    return set(container) if isinstance(container, set) else list(container)


def _is_other_number(old: Any, new: Any) -> bool:
    return old is not new and isinstance(old, _PLAIN_TYPES) and isinstance(new, _PLAIN_TYPES) and old != new


def has_slots(value: Any) -> bool:
    """Return whether a value is an object of a user's class that keeps its attributes in slots."""
    return bool(_slot_names(value))


def _slot_names(value: Any) -> tuple[str, ...]:
    kind: Any = type(value)  # typed as Any, since mypy considers classes unhashable
    return _slot_names_of_class(kind)


@functools.lru_cache(maxsize=4096)
def _slot_names_of_class(kind: type) -> tuple[str, ...]:
    if not is_user_file(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<frozen"):
        return ()
    slots_of_bases = [getattr(each, "__slots__", ()) for each in kind.__mro__ if each.__module__ != "builtins"]
    names = [name for slots in slots_of_bases for name in ((slots,) if isinstance(slots, str) else slots)]
    return tuple(name for name in names if not name.startswith("__"))


def _holds(value: Any, kinds: tuple[type, ...]) -> bool:
    if isinstance(value, ref):  # the entry of a weak dictionary
        value = value()
    return any(True for _ in find_instances(value, kinds))
