"""The user's own code behind a model: its classes, its modules' global names, its cached functions."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.eager.thread_overrides import in_this_thread, overridden
from surgery.graph import is_user_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn


@contextmanager
def fresh_caches(model: nn.Module, told: Callable[[Any], Any] = lambda value: value) -> Iterator[None]:
    """Within the block, the user's functions with an `lru_cache` have an empty one, and `told` has what they give.

    So nothing of the block is remembered.
    """
    homes: list[Any] = [*user_namespaces(model), *user_classes(model)]
    caches = [
        (home, name, value)
        for home in homes
        for name, value in (home if isinstance(home, dict) else vars(home)).items()
        if _is_cache(value)
    ]
    with overridden((home, name, _fresh(value, told)) for home, name, value in caches):
        yield


def _is_cache(value: Any) -> bool:
    return type(value) is functools._lru_cache_wrapper  # noqa: SLF001


def user_classes(model: nn.Module) -> set[type]:
    """The classes of a model's modules that are not torch's own, and those that they inherit from."""
    return {kind for module in model.modules() for kind in type(module).__mro__ if _is_users_own(kind)}


def user_namespaces(model: nn.Module) -> list[dict[str, Any]]:
    """The global names of the user's modules: of those that know torch, and of the packages of the model."""
    kinds = user_classes(model)
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    found = {id(vars(module)): vars(module) for module in list(sys.modules.values()) if _is_users(module, packages)}
    for kind in kinds:
        for function in vars(kind).values():
            names = getattr(function, "__globals__", None)
            if names is not None and is_user_file(getattr(function, "__code__", _NO_CODE).co_filename):
                found[id(names)] = names
    return list(found.values())


class _NoCode:
    co_filename = "<frozen"


_NO_CODE = _NoCode()


def _is_users(module: Any, packages: set[str]) -> bool:
    names: dict[str, Any] = getattr(module, "__dict__", {})
    file = names.get("__file__")
    known = names.keys() & {"torch", "nn", "Tensor"} or str(names.get("__name__")).partition(".")[0] in packages
    return bool(known) and (names.get("__name__") == "__main__" if file is None else is_user_file(str(file)))


def _is_users_own(kind: type) -> bool:
    return not kind.__module__.startswith(("torch.", "builtins"))


def _fresh(cached_function: Any, cached: Callable[[Any], Any]) -> Any:
    """The same function with a cache of its own."""
    inner = cached_function.__wrapped__

    @functools.wraps(inner)
    def call(*args: Any, **kwargs: Any) -> Any:
        return cached(inner(*args, **kwargs))

    fresh: Any = in_this_thread(cached_function, functools.lru_cache(**cached_function.cache_parameters())(call))
    for name in ("cache_info", "cache_clear", "cache_parameters"):
        setattr(fresh, name, getattr(cached_function, name))
    return fresh
