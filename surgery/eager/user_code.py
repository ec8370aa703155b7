"""The user's code of a model: the classes of its modules, the global names of their files, cached functions."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from surgery.eager.thread_overrides import override_in_this_thread, override_names
from surgery.graph import is_user_file, list_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


@contextmanager
def isolate_caches(model: nn.Module, on_result: Callable[[Any], Any] = lambda value: value) -> Iterator[None]:
    """Within the block, the user's functions with an `lru_cache` have empty caches, which are dropped after it.

    Otherwise a cache would keep proxies or tensors of this run for later runs. Each computed result passes through
    `on_result`.
    """
    remembered = _remembered.get() or _Remembered()
    found = [
        cached
        for namespace in (*user_namespaces(model), *user_classes(model))
        for cached in _cached_functions(namespace, remembered)
    ]
    known = remembered.caches
    key = tuple((id(namespace), name, id(value)) for namespace, name, value in found)
    caches = known.pop(key, None) or [_IsolatedCache(*each) for each in found]  # a block inside this one has others
    try:
        for cache in caches:
            cache.clear(on_result)
        with override_names(cache.override for cache in caches):
            yield
    finally:
        for cache in caches:
            cache.clear()
        known[key] = caches


def _cached_functions(namespace: Any, remembered: _Remembered) -> list[tuple[Any, str, Any]]:
    """Return the functions with an `lru_cache` in a namespace, each with the namespace and its name."""
    if not remembered.has_caches.get(id(namespace), True):
        return []
    names: dict[str, Any] = namespace if isinstance(namespace, dict) else vars(namespace)
    found = []
    if _CACHED in map(type, names.values()):  # faster than a look at each, and seldom true
        found = [(namespace, name, value) for name, value in names.items() if type(value) is _CACHED]
    if "site-packages" in str(names.get("__file__")):
        # What is found the first time counts: in a block inside another one, the names are overridden.
        remembered.has_caches.setdefault(id(namespace), bool(found))
    return found


_CACHED = functools._lru_cache_wrapper  # noqa: SLF001


class _IsolatedCache:
    """An override of a cached function by one with a cache of its own and the same parameters."""

    def __init__(self, namespace: Any, name: str, cached_function: Any) -> None:
        self._cached_function = cached_function
        self.clear()
        self.override = override_in_this_thread(namespace, name, self._call, cached_function)
        for method in ("cache_info", "cache_clear", "cache_parameters"):
            setattr(self.override[2], method, getattr(cached_function, method))

    def clear(self, on_result: Callable[[Any], Any] = lambda value: value) -> None:
        """Drop the cached results. Later ones pass through `on_result`."""
        self._on_result = on_result
        self._function: Callable[..., Any] | None = None

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:  # most cached functions are not called
            inner, on_result = self._cached_function.__wrapped__, self._on_result

            @functools.wraps(inner)
            def compute(*args: Any, **kwargs: Any) -> Any:
                return on_result(inner(*args, **kwargs))

            self._function = functools.lru_cache(**self._cached_function.cache_parameters())(compute)
        return self._function(*args, **kwargs)


def user_classes(model: nn.Module) -> set[type]:
    """Return the classes of a model's modules and their bases, without those of torch and Python."""
    kinds = {base for kind in {type(module) for _, module in list_modules(model)} for base in kind.__mro__}
    return {kind for kind in kinds if _is_user_class(kind)}


_Namespaces: TypeAlias = "tuple[dict[str, Any], ...]"


class _Remembered:
    """What was found in the user's code."""

    def __init__(self) -> None:
        self.namespaces: dict[tuple[frozenset[type], int], _Namespaces] = {}
        """By the classes of a model, and the number of imported modules."""
        self.caches: dict[tuple[tuple[int, str, int], ...], list[_IsolatedCache]] = {}
        """By the identity of their namespaces and functions. Those in use are not among them."""
        self.has_caches: dict[int, bool] = {}
        """Whether installed modules have functions with an `lru_cache`, by the identity of their namespaces."""


_remembered: ContextVar[_Remembered | None] = ContextVar("_remembered", default=None)


@contextmanager
def remember_namespaces() -> Iterator[None]:
    """Within the block, look through the imported modules once for each set of classes, since there may be thousands.

    They are looked through again when the number of imported modules changes. Names of installed modules are looked
    through for cached functions once.
    """
    token = _remembered.set(_Remembered())
    try:
        yield
    finally:
        _remembered.reset(token)


def user_namespaces(model: nn.Module) -> _Namespaces:
    """Return the global names of the user's modules, one dict for each.

    A module counts as the user's if it has imported torch under a usual name, or belongs to a package of one of the
    model's classes.
    """
    kinds = frozenset(user_classes(model))
    remembered = _remembered.get()
    if remembered is None:
        return _find_namespaces(kinds)
    key = (kinds, len(sys.modules))
    if key not in remembered.namespaces:
        remembered.namespaces[key] = _find_namespaces(kinds)
    return remembered.namespaces[key]


def _find_namespaces(kinds: frozenset[type]) -> _Namespaces:
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    namespaces: dict[int, dict[str, Any]] = {}
    for name in list(sys.modules):
        module = sys.modules.get(name)
        if _libraries.get(name) is not module and _is_user_module(name, module, packages):
            namespaces[id(vars(module))] = vars(module)
    for kind in kinds:
        for function in vars(kind).values():
            names = getattr(function, "__globals__", None)
            code = getattr(function, "__code__", None)
            if names is not None and code is not None and is_user_file(code.co_filename):
                namespaces[id(names)] = names
    return tuple(namespaces.values())


_libraries: dict[str, Any] = {}
"""The imported modules whose files are not the user's, by the names under which they were imported."""


def _is_user_module(name: str, module: Any, packages: set[str]) -> bool:
    names: dict[str, Any] = getattr(module, "__dict__", {})
    uses_torch = "torch" in names or "nn" in names or "Tensor" in names
    if not uses_torch and str(names.get("__name__")).partition(".")[0] not in packages:
        return False  # most of them
    file = names.get("__file__")
    if file is None and names.get("__name__") != "__main__":
        return False
    if file is not None and not is_user_file(str(file)):
        _libraries[name] = module
        return False
    return True


def _is_user_class(kind: type) -> bool:
    return not kind.__module__.startswith(("torch.", "builtins"))
