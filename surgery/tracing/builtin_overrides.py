"""What the user's modules find under Python's own names while a model of theirs is traced."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.eager import overridden, user_namespaces
from surgery.tracing.proxies import PROXIES, known_or_noted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_isinstance, _callable, _type = isinstance, callable, type


@contextmanager
def answered(model: nn.Module) -> Iterator[None]:
    """Within the block, `isinstance`, `type` and `callable` know what a proxy stands for, in the user's modules."""
    with overridden(
        (home, name, answer) for home in user_namespaces(model) for name, answer in _ANSWERS.items() if name not in home
    ):
        yield


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
