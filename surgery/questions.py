"""What the user's modules find under Python's own names while a model of theirs is traced."""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.overrides import in_this_thread, overridden
from surgery.proxies import PROXIES, known_or_noted
from surgery.sources import is_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

_isinstance, _callable, _type = isinstance, callable, type


@contextmanager
def answered(model: nn.Module) -> Iterator[None]:
    """Within the block, `isinstance`, `type` and `callable` know what a proxy stands for, in the user's modules."""
    with overridden(
        (home, name, answer) for home in user_namespaces(model) for name, answer in _ANSWERS.items() if name not in home
    ):
        yield


@contextmanager
def fresh_caches(model: nn.Module, told: Callable[[Any], Any] = lambda value: value) -> Iterator[None]:
    """Within the block, the user's functions with an `lru_cache` have an empty one, and `told` has what they give.

    So nothing of the block is remembered.
    """
    homes: list[Any] = [*user_namespaces(model), *user_classes(model)]
    caches = [
        (home, name, value)
        for home in homes
        for name, value in (home if _isinstance(home, dict) else vars(home)).items()
        if _is_cache(value)
    ]
    with overridden((home, name, _fresh(value, told)) for home, name, value in caches):
        yield


def _is_cache(value: Any) -> bool:
    return _type(value) is functools._lru_cache_wrapper  # noqa: SLF001


def user_classes(model: nn.Module) -> set[type]:
    """The classes of a model's modules that are not torch's own, and those that they inherit from."""
    return {kind for module in model.modules() for kind in _type(module).__mro__ if _is_users_own(kind)}


def user_namespaces(model: nn.Module) -> list[dict[str, Any]]:
    """The global names of the user's modules: of those that know torch, and of the packages of the model."""
    kinds = user_classes(model)
    packages = {kind.__module__.partition(".")[0] for kind in kinds}
    found = {id(vars(module)): vars(module) for module in list(sys.modules.values()) if _is_users(module, packages)}
    for kind in kinds:
        for function in vars(kind).values():
            names = getattr(function, "__globals__", None)
            if names is not None and is_users(getattr(function, "__code__", _NO_CODE).co_filename):
                found[id(names)] = names
    return list(found.values())


class _NoCode:
    co_filename = "<frozen"


_NO_CODE = _NoCode()


def _is_users(module: Any, packages: set[str]) -> bool:
    names: dict[str, Any] = getattr(module, "__dict__", {})
    file = names.get("__file__")
    known = names.keys() & {"torch", "nn", "Tensor"} or str(names.get("__name__")).partition(".")[0] in packages
    return bool(known) and (names.get("__name__") == "__main__" if file is None else is_users(str(file)))


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


def _is_instance(value: Any, kinds: Any, /) -> bool:
    if _type(value) not in PROXIES:
        return _isinstance(value, kinds)
    found = known_or_noted(value)
    if found in PROXIES:
        return _isinstance(value, kinds)
    return any(_is_subclass(found, kind) for kind in _each(kinds))


def _each(kinds: Any) -> Iterator[Any]:
    if _isinstance(kinds, tuple):
        for kind in kinds:
            yield from _each(kind)
    else:
        yield from getattr(kinds, "__args__", (kinds,)) if _type(kinds).__name__ == "UnionType" else (kinds,)


def _is_subclass(found: type, kind: Any) -> bool:
    return issubclass(found, kind) if _isinstance(kind, _type) else False


def _is_callable(value: Any, /) -> bool:
    return (
        _callable(value)
        if _type(value) not in PROXIES
        else any("__call__" in vars(kind) for kind in known_or_noted(value).__mro__)
    )


class _TypeOf:
    """`type`, but for proxies."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and _type(args[0]) in PROXIES:
            return known_or_noted(args[0])
        return _type(*args, **kwargs)

    def __getattribute__(self, name: str) -> Any:
        return getattr(_type, name)

    def __getitem__(self, kind: Any) -> Any:
        return _type[kind]

    def __or__(self, other: Any) -> Any:
        return _type | other

    def __ror__(self, other: Any) -> Any:
        return other | _type

    def __eq__(self, other: object) -> bool:
        return other is self or other is _type

    def __hash__(self) -> int:
        return hash(_type)

    def __instancecheck__(self, value: Any) -> bool:
        return _isinstance(value, _type)

    def __subclasscheck__(self, kind: Any) -> bool:
        return issubclass(kind, _type)

    def __mro_entries__(self, bases: Any) -> tuple[type]:
        return (_type,)


_ANSWERS = {"isinstance": _is_instance, "callable": _is_callable, "type": _TypeOf()}
