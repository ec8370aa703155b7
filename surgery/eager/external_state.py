"""What a model can reach outside itself: global names, class attributes, closures, default arguments.

A run may leave values there (features that a hook keeps, a table of grids by their size), and a later run may read
them. Tracing must leave no stand-in there, and must not freeze what an earlier run has left.
"""

from __future__ import annotations

import functools
import sys
from collections import UserDict, UserList, deque
from contextlib import contextmanager
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, fx, nn

from surgery.eager.user_code import user_classes
from surgery.graph import MODULE_ATTRIBUTES, find_instances, is_user_file, is_user_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_DEPTH, _MOST = 8, 100_000
_CONTAINERS = (dict, list, set, deque, CellType, type)
_LEADING = (
    *_CONTAINERS,
    nn.Module,
    FunctionType,
    MethodType,
    functools.partial,
    staticmethod,
    classmethod,
    ModuleType,
    UserDict,
    UserList,
)
_ABSENT = object()
_OF_CLASSES = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__abstractmethods__"}
"""Names in a class that no run changes, or that can't be put back."""


@dataclass(frozen=True, slots=True)
class Place:
    """A container that a model can reach, and what was in it."""

    name: str
    """As somebody would write it: ``FEATURES``, ``Net.cache``."""
    container: Any
    before: Any
    whole: bool = True
    """Whether `before` is all that was in it, and not some names of a module."""

    def values(self) -> Iterable[Any]:
        """What was in it, not looking into what that holds."""
        return self.before.values() if isinstance(self.before, dict) else self.before

    def changed(self) -> bool:
        """Whether tensors, or what stands for them, were put there or taken away since."""
        pairs = [(old, new) for old, new in self._pairs() if old is not new]
        return any(_holds_values(value) for pair in pairs for value in pair)

    def put_back(self) -> None:
        """Put back what was there."""
        container, before = self.container, self.before
        if isinstance(container, CellType):
            if before:
                container.cell_contents = before[0]
            else:
                del container.cell_contents
        elif isinstance(before, dict):
            put = container.__setitem__ if isinstance(container, dict) else functools.partial(setattr, container)
            take = container.pop if isinstance(container, dict) else functools.partial(delattr, container)
            now = self._now()
            for key in {**before, **now}:
                if key not in before:
                    take(key)
                elif now.get(key, _ABSENT) is not before[key]:
                    put(key, before[key])
        else:
            container.clear()
            container.update(before) if isinstance(container, set) else container.extend(before)

    def _now(self) -> Any:
        now = _contents(self.container)
        return now if self.whole else {key: now[key] for key in self.before if key in now}

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        """What was there and what is there now, entry by entry."""
        before, now = self.before, self._now()
        if isinstance(before, dict):
            yield from ((before.get(key, _ABSENT), now.get(key, _ABSENT)) for key in {**before, **now})
        elif isinstance(before, set):
            yield from ((_ABSENT, item) for item in before ^ now)
        else:
            longest = max(len(before), len(now))
            padded = ([*items, *[_ABSENT] * (longest - len(items))] for items in (before, now))
            yield from zip(*padded, strict=True)


class ExternalState:
    """The containers that a model can reach, in its own attributes too, and what is in them now."""

    def __init__(self, model: nn.Module) -> None:
        self._seen: set[int] = set()
        self._waiting: deque[tuple[str, Any, int]] = deque()
        self.places: list[Place] = []
        self._waiting.extend((kind.__name__, kind, 0) for kind in user_classes(model))
        self._waiting.extend((type(module).__name__, module, 0) for module in model.modules())
        while self._waiting and len(self._seen) < _MOST:
            name, value, depth = self._waiting.popleft()
            if id(value) not in self._seen and depth <= _DEPTH:
                self._seen.add(id(value))
                self._look_into(name, value, depth + 1)

    def changed(self) -> list[Place]:
        """The containers in which tensors, or what stands for them, were put or replaced since."""
        return [place for place in self.places if place.changed()]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within the block, what is in the containers may change; then it is put back."""
        try:
            yield
        finally:
            for place in self.changed():
                place.put_back()

    def _look_into(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        if isinstance(value, (FunctionType, MethodType, functools.partial)):
            self._waiting.extend((name, part, depth) for part in _parts_of_function(value))
            if isinstance(value, FunctionType):
                self._look_at_names(value.__globals__, _names_in(value.__code__), depth)
            return
        users_object = is_user_object(value)
        if users_object:
            self._waiting.append((type(value).__name__, type(value), depth))
        keeps = users_object or isinstance(value, (nn.Module, UserDict, UserList))
        container = vars(value) if keeps else value
        if not (isinstance(container, (*_CONTAINERS, tuple)) or _has_slots(container)) or (
            isinstance(container, type) and not _is_users(value)
        ):
            return
        before = _contents(container)
        if not isinstance(container, tuple):
            self.places.append(Place(name, container, before))
        held = before.items() if isinstance(before, dict) else (("", item) for item in before)
        for key, item in held:
            if isinstance(value, nn.Module) and key in MODULE_ATTRIBUTES:
                hooks = item.values() if key.endswith("_hooks") and isinstance(item, dict) else ()
                self._waiting.extend(("a hook", hook, depth) for hook in hooks)
            elif _leads_on(item):
                self._waiting.append((_named(name, key), item, depth))

    def _look_at_names(self, names: dict[str, Any], used: frozenset[str], depth: int) -> None:
        """The global names that a function uses, and those that it uses of the user's modules."""
        if not is_user_file(str(names.get("__file__") or "__main__")):
            return
        found = {name: names[name] for name in used if name in names}
        self.places.append(Place("", names, found, whole=False))
        for name, value in found.items():
            if isinstance(value, ModuleType):
                if is_user_file(str(getattr(value, "__file__", None) or "<frozen")) and id(value) not in self._seen:
                    self._look_at_names(vars(value), used, depth)
            elif _leads_on(value):
                self._waiting.append((name, value, depth))


Kept: TypeAlias = "Mapping[str, Sequence[Tensor]]"
"""The tensors that a model held in each of its attributes when it was traced."""


def kept_in(model: nn.Module) -> dict[str, list[Tensor]]:
    """The tensors in each attribute of a model's modules, in containers there too; parameters and buffers are none."""
    return {
        f"{path}.{name}" if path else name: tensors
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in MODULE_ATTRIBUTES and (tensors := list(find_instances(value)))
    }


def left_over(changed: list[Place], copies: Mapping[int, Any]) -> dict[int, str]:
    """The tensors, by identity, that were in the containers before they changed, and the name of their container.

    `copies` has the copies of containers by the identity of the original, as `copy.deepcopy` notes them: a copy of a
    model reads its own copy of a container into which a hook writes under the model's name.
    """
    found: dict[int, str] = {}
    for place in changed:
        for source in (place.before, copies.get(id(place.container))):
            found |= {id(tensor): place.name for tensor in find_instances(source)}
    return found


@functools.lru_cache(maxsize=4096)
def _names_in(code: CodeType) -> frozenset[str]:
    """The names that a function's code uses, of functions in it too."""
    inner = [_names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return frozenset(code.co_names).union(*inner)


def _contents(container: Any) -> Any:
    """A shallow copy of what a container holds: a dict, list or set."""
    if isinstance(container, CellType):
        try:
            return [container.cell_contents]
        except ValueError:  # it is empty
            return []
    if isinstance(container, type):
        return {name: value for name, value in vars(container).items() if name not in _OF_CLASSES}
    if isinstance(container, dict):
        return dict(container)
    if _has_slots(container):
        return {name: getattr(container, name) for name in _slots(_kind(container)) if hasattr(container, name)}
    return set(container) if isinstance(container, set) else list(container)


def _is_users(kind: type) -> bool:
    return not kind.__module__.startswith(("torch.", "builtins", "collections", "abc", "typing"))


def _parts_of_function(function: Any) -> Iterator[Any]:
    if isinstance(function, functools.partial):
        yield from (function.func, *function.args, *function.keywords.values())
    elif isinstance(function, MethodType):
        yield from (function.__self__, function.__func__)
    else:
        yield from function.__closure__ or ()
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        yield function.__dict__


def _named(home: str, key: Any) -> str:
    if not isinstance(key, str) or not key:
        return home
    return f"{home}.{key}" if home else key


def _leads_on(value: Any) -> bool:
    """Whether a value can lead to a container."""
    if isinstance(value, tuple):
        return any(isinstance(item, Tensor) or _leads_on(item) for item in value)
    return isinstance(value, _LEADING) or is_user_object(value) or _has_slots(value)


def _kind(value: Any) -> Any:
    return type(value)


def _has_slots(value: Any) -> bool:
    """Whether a value is an object of a user's class that keeps its attributes in slots."""
    return bool(_slots(_kind(value)))


@functools.lru_cache(maxsize=4096)
def _slots(kind: type) -> tuple[str, ...]:
    if not is_user_file(getattr(sys.modules.get(kind.__module__), "__file__", None) or "<frozen"):
        return ()
    named = [getattr(each, "__slots__", ()) for each in kind.__mro__ if each.__module__ != "builtins"]
    names = [name for slots in named for name in ((slots,) if isinstance(slots, str) else slots)]
    return tuple(name for name in names if not name.startswith("__"))


def _holds_values(value: Any) -> bool:
    return any(True for _ in find_instances(value, (Tensor, fx.Proxy)))
