"""The user's code of a model: the classes of its modules, the global names of their files, cached functions."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from surgery.eager.thread_overrides import override_in_this_thread, override_names
from surgery.graph import is_user_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


@contextmanager
def isolate_caches(model: nn.Module, on_result: Callable[[Any], Any] = lambda value: value) -> Iterator[None]:
    """Within the block, the user's functions with an `lru_cache` have empty caches, which are dropped after it.

    Otherwise a cache would keep proxies or tensors of this run for later runs. Each computed result passes through
    `on_result`.
    """
    namespaces: list[Any] = [*user_namespaces(model), *user_classes(model)]
    cached_functions = [
        (namespace, name, value)
        for namespace in namespaces
        for name, value in (namespace if isinstance(namespace, dict) else vars(namespace)).items()
        if type(value) is functools._lru_cache_wrapper  # noqa: SLF001
    ]
    with override_names(_with_empty_cache(*found, on_result) for found in cached_functions):
        yield


def _with_empty_cache(
    namespace: Any, name: str, cached_function: Any, on_result: Callable[[Any], Any]
) -> tuple[Any, str, Any]:
    """Return the override of a cached function by one with an empty cache and the same parameters."""
    inner = cached_function.__wrapped__

    @functools.wraps(inner)
    def compute(*args: Any, **kwargs: Any) -> Any:
        return on_result(inner(*args, **kwargs))

    replacement = functools.lru_cache(**cached_function.cache_parameters())(compute)
    override = override_in_this_thread(namespace, name, replacement, cached_function)
    for method in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(override[2], method, getattr(cached_function, method))
    return override


def user_classes(model: nn.Module) -> set[type]:
    """Return the classes of a model's modules and their bases, without those of torch and Python."""
    return {kind for module in model.modules() for kind in type(module).__mro__ if _is_user_class(kind)}


_Namespaces: TypeAlias = "tuple[dict[str, Any], ...]"

_remembered: ContextVar[dict[tuple[frozenset[type], int], _Namespaces] | None] = ContextVar("_remembered", default=None)


@contextmanager
def remember_namespaces() -> Iterator[None]:
    """Within the block, look through the imported modules once for each set of classes, since there may be thousands.

    They are looked through again when the number of imported modules changes.
    """
    token = _remembered.set({})
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
    if key not in remembered:
        remembered[key] = _find_namespaces(kinds)
    return remembered[key]


def _find_namespaces(kinds: frozenset[type]) -> _Namespaces:
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    namespaces = {
        id(vars(module)): vars(module) for module in list(sys.modules.values()) if _is_user_module(module, packages)
    }
    for kind in kinds:
        for function in vars(kind).values():
            names = getattr(function, "__globals__", None)
            code = getattr(function, "__code__", None)
            if names is not None and code is not None and is_user_file(code.co_filename):
                namespaces[id(names)] = names
    return tuple(namespaces.values())


def _is_user_module(module: Any, packages: set[str]) -> bool:
    names: dict[str, Any] = getattr(module, "__dict__", {})
    uses_torch = "torch" in names or "nn" in names or "Tensor" in names
    if not uses_torch and str(names.get("__name__")).partition(".")[0] not in packages:
        return False
    file = names.get("__file__")
    return names.get("__name__") == "__main__" if file is None else is_user_file(str(file))


def _is_user_class(kind: type) -> bool:
    return not kind.__module__.startswith(("torch.", "builtins"))
