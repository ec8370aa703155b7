"""State outside a model that its code can reach: global names, class attributes, closures, default arguments.

A run may store values there (features that a hook collects, a table of grids by size), and a later run may read them.
A trace must not leave proxies there, and a graph must not contain values that an earlier run stored.
"""

from __future__ import annotations

import functools
import random
import threading
from argparse import Namespace
from array import array
from collections import UserDict, UserList, deque
from contextlib import contextmanager
from contextvars import ContextVar
from queue import Queue
from threading import local
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from surgery.eager.container_snapshots import CONTAINER_TYPES, ContainerSnapshot, copy_contents, has_slots
from surgery.eager.random_states import generator_states, restore_generators
from surgery.eager.user_code import user_classes
from surgery.graph import IMMUTABLE_TYPES, MODULE_ATTRIBUTES, is_user_file, is_user_object, list_modules

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_DEPTH, _MAX_OBJECTS, _MAX_ARRAY_BYTES = 8, 100_000, 1 << 20
_FOLLOWED_TYPES = (
    *CONTAINER_TYPES,
    nn.Module,
    FunctionType,
    MethodType,
    functools.partial,
    staticmethod,
    classmethod,
    ModuleType,
    UserDict,
    UserList,
    WeakKeyDictionary,
    WeakValueDictionary,
    local,
)
"""Types of values that may lead to a container."""


class ExternalState:
    """Snapshots of the containers that a model can reach, including those in its own attributes.

    The search begins at the model's classes and modules, and follows containers, objects of the user's classes,
    functions with their closures and defaults, and the global names that those functions use. It ends at a depth of 8,
    and after 100,000 objects.
    """

    def __init__(self, model: nn.Module, known: ExternalState | None = None) -> None:
        """`known` has snapshots of another model: what that one can reach too is left out."""
        self.snapshots: list[ContainerSnapshot] = []
        self._visited: set[int] = set()
        self._visited_globals: set[tuple[int, frozenset[str]]] = set()
        """The global names of modules, by identity, with the names of them that a function uses."""
        self._globals: dict[int, ContainerSnapshot] = {}
        """The snapshots of the global names of modules, by identity."""
        self._bare: list[tuple[str, dict[str, Any]]] = []
        """The names of functions that have no attributes, and the dicts where they would be."""
        self.is_complete = True
        """Whether all that the model can reach is compared: nothing hides its state, as an iterator does."""
        self._arrays: list[tuple[str, np.ndarray[Any, Any], int]] = []
        """Arrays of numpy of at most a MiB, with their names and hashes of their contents."""
        self._tensors: list[tuple[str, Tensor]] = []
        """Tensors with their names, without parameters and buffers."""
        self._waiting: deque[tuple[str, Any, int]] = deque()
        self._waiting.extend((kind.__name__, kind, 0) for kind in user_classes(model))
        self._waiting.extend((type(module).__name__, module, 0) for _, module in list_modules(model))
        if known is not None:
            self._visited |= known._visited  # noqa: SLF001
            self._visited_globals |= known._visited_globals  # noqa: SLF001
        while self._waiting and len(self._visited) < _MAX_OBJECTS:
            name, value, depth = self._waiting.popleft()
            if id(value) in self._visited:
                continue
            if depth > _MAX_DEPTH:
                self.is_complete = False
                continue
            self._visited.add(id(value))
            self._visit(name, value, depth + 1)
        self.is_complete = self.is_complete and not self._waiting

    def changed(self) -> list[ContainerSnapshot]:
        """Return the snapshots of the containers whose tensors or proxies have changed since."""
        return self._changed()

    def changed_numbers(self) -> list[str]:
        """Return the names of the numbers and texts in the containers, and of the arrays, that have changed since."""
        arrays = [name for name, array, content in self._arrays if hash(array.tobytes()) != content]
        return [name for snapshot in self.snapshots for name in snapshot.changed_numbers()] + arrays

    def tensor_versions(self) -> list[int]:
        """Return how often each tensor that is neither a parameter nor a buffer has been written to."""
        return [0 if tensor.is_inference() else tensor._version for _, tensor in self._tensors]  # noqa: SLF001

    def written_tensors(self, versions: list[int]) -> list[str]:
        """Return the names of the tensors that have been written to since they had these versions."""
        pairs = zip(self._tensors, versions, self.tensor_versions(), strict=True)
        return [name or "a global name" for (name, _), old, new in pairs if old != new]

    def is_untouched(self) -> bool:
        """Return whether all containers hold the very same objects, and the arrays the same numbers."""
        attributes_of_functions = any(attributes for _, attributes in self._bare)
        is_same = not attributes_of_functions and all(snapshot.is_untouched() for snapshot in self.snapshots)
        return is_same and not any(hash(array.tobytes()) != content for _, array, content in self._arrays)

    @contextmanager
    def preserve(self) -> Iterator[None]:
        """Within the block, the containers may change; after it, containers with changed tensors are restored."""
        try:
            yield
        finally:
            for snapshot in self.changed():
                snapshot.restore()

    @contextmanager
    def restart(self) -> Iterator[None]:
        """Within the block, anything may change; after it, numbers and texts in the containers are restored too.

        So are the random generators of Python and numpy, unless other threads run, which may have drawn from them.
        """
        generators = generator_states()
        try:
            yield
        finally:
            if threading.active_count() == 1:
                restore_generators(generators)
            for snapshot in self._changed(plain_values=True):
                snapshot.restore()

    def _changed(self, *, plain_values: bool = False) -> list[ContainerSnapshot]:
        filled = [ContainerSnapshot(name, attributes, {}) for name, attributes in self._bare if attributes]
        return [each for each in (*self.snapshots, *filled) if each.has_changed(plain_values=plain_values)]

    def _visit(self, name: str, value: Any, depth: int) -> None:
        """Take a snapshot of a container, and queue the values that it contains or refers to."""
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, (FunctionType, MethodType, functools.partial)):
            self._visit_function(name, value, depth)
            return
        if is_user_object(value):
            self._waiting.append((type(value).__name__, type(value), depth))
        container = _container_of(value)
        if not (isinstance(container, (*CONTAINER_TYPES, tuple)) or has_slots(container)) or (
            isinstance(container, type) and not _is_user_class(container)
        ):
            return
        contents = copy_contents(container)
        if not isinstance(container, tuple):
            self.snapshots.append(ContainerSnapshot(name, container, contents))
        for key, item in contents.items() if isinstance(contents, dict) else (("", item) for item in contents):
            if isinstance(value, nn.Module) and key in MODULE_ATTRIBUTES:
                hooks = item.values() if key.endswith("_hooks") and isinstance(item, dict) else ()
                self._waiting.extend(("a hook", hook, depth) for hook in hooks)
            else:
                self._follow(_join_names(name, key), item, depth)

    def _visit_function(self, name: str, function: Any, depth: int) -> None:
        for part in _function_parts(function):
            self._follow(name, part, depth)
        if isinstance(function, FunctionType):
            if not function.__dict__:
                self._bare.append((name, function.__dict__))
            self._visit_globals(function.__globals__, _used_names(function.__code__), depth)

    def _follow(self, name: str, value: Any, depth: int) -> None:
        """Queue a value that may lead to a container, and remember a tensor, and the contents of an array."""
        if isinstance(value, Tensor):
            self._tensors.append((name, value))
        elif not isinstance(value, np.ndarray):
            kind: Any = type(value)  # typed as Any, since mypy considers classes unhashable
            self.is_complete &= not _hides_state(kind)
            if id(value) not in self._visited and _may_lead_to_container(value):
                self._waiting.append((name, value, depth))
        elif value.nbytes <= _MAX_ARRAY_BYTES and not value.dtype.hasobject:
            self._arrays.append((name, value, hash(value.tobytes())))
        else:
            self.is_complete = False

    def _visit_globals(self, names: dict[str, Any], used: frozenset[str], depth: int) -> None:
        """Visit the global names that a function uses, and the same names in the user's modules that it uses."""
        key = id(names), used
        if key in self._visited_globals or not is_user_file(str(names.get("__file__") or "__main__")):
            return  # modules may import each other in a circle
        self._visited_globals.add(key)
        snapshot = self._globals.get(id(names))
        if snapshot is None:
            snapshot = self._globals[id(names)] = ContainerSnapshot("", names, {}, is_complete=False)
            self.snapshots.append(snapshot)
        contents = {name: names[name] for name in used if name in names}
        for name, value in contents.items():
            if isinstance(value, ModuleType):
                if is_user_file(str(getattr(value, "__file__", None) or "<frozen")):
                    self._visit_globals(vars(value), used, depth)
            elif name not in snapshot.contents:
                self._follow(name, value, depth)
        snapshot.contents.update(contents)


def _container_of(value: Any) -> Any:
    """Return the container of a value's contents or attributes; the value itself if it is a container."""
    if isinstance(value, (WeakKeyDictionary, WeakValueDictionary)):
        return vars(value)["data"]
    kind: Any = type(value)
    return vars(value) if is_user_object(value) or _has_attributes(kind) else value


@functools.lru_cache(maxsize=4096)
def _has_attributes(kind: Any) -> bool:
    return issubclass(kind, (nn.Module, UserDict, UserList, local))


@functools.lru_cache(maxsize=4096)
def _used_names(code: CodeType) -> frozenset[str]:
    """Return the global names and attributes that a function's code uses, including the functions defined in it."""
    inner = [_used_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)


def _is_user_class(kind: type) -> bool:
    return not kind.__module__.startswith(("torch.", "builtins", "collections", "abc", "typing"))


def _function_parts(function: Any) -> Iterator[Any]:
    """Yield the values that a function, a method or a partial refers to: arguments, closure, defaults, attributes."""
    if isinstance(function, functools.partial):
        yield from (function.func, *function.args, *function.keywords.values())
    elif isinstance(function, MethodType):
        yield from (function.__self__, function.__func__)
    else:
        yield from function.__closure__ or ()
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        if function.__dict__:
            yield function.__dict__


def _join_names(home: str, key: Any) -> str:
    if not isinstance(key, str) or not key:
        return home
    return f"{home}.{key}" if home else key


def _may_lead_to_container(value: Any) -> bool:
    if type(value) in IMMUTABLE_TYPES:
        return False
    if isinstance(value, tuple):
        kinds: list[Any] = [type(item) for item in value]
        holds_state = any(issubclass(kind, Tensor) or _hides_state(kind) for kind in kinds)
        return holds_state or any(map(_may_lead_to_container, value))
    kind: Any = type(value)
    return _is_followed(kind) or is_user_object(value) or has_slots(value)


@functools.lru_cache(maxsize=4096)
def _hides_state(kind: Any) -> bool:
    """Return whether objects of a class change when they are used, and no snapshot shows it, as iterators do."""
    return hasattr(kind, "__next__") or issubclass(kind, _HIDING_TYPES)


_HIDING_TYPES = (
    *(random.Random, torch.Generator, np.random.Generator, np.random.RandomState, np.random.BitGenerator),
    *(ContextVar, SimpleNamespace, Namespace, Queue, array, bytearray),
)


@functools.lru_cache(maxsize=4096)
def _is_followed(kind: Any) -> bool:
    return issubclass(kind, _FOLLOWED_TYPES)
