"""Overrides of `isinstance`, `type` and `callable` in the user's modules while a model is traced.

For a proxy, Python's own ``isinstance(x, Tensor)`` is False, and the model takes another branch. Python looks up a name
in the globals of a module before the builtins, so the replacements are globals of the user's modules during a trace. A
module with a global of that name is not covered, nor is code that calls ``builtins.isinstance``.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.eager import override_names, user_namespaces
from surgery.tracing.proxies import PROXIES, resolve_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

_isinstance, _callable, _type = isinstance, callable, type


@contextmanager
def override_builtins(model: nn.Module) -> Iterator[None]:
    """Within the block, the three functions use the type that a proxy represents, in the user's modules."""
    with override_names(
        (namespace, name, function)
        for namespace in user_namespaces(model)
        for name, function in _REPLACEMENTS.items()
        if name not in namespace
    ):
        yield


def _is_instance(value: Any, kinds: Any, /) -> bool:
    if _type(value) not in PROXIES:
        return _isinstance(value, kinds)
    value_type = resolve_type(value)
    if value_type in PROXIES:
        return _isinstance(value, kinds)
    return any(_is_subclass(value_type, kind) for kind in _flatten_types(kinds))


def _flatten_types(kinds: Any) -> Iterator[Any]:
    """Yield the single types in the second argument of `isinstance`: a type, a union, or nested tuples of them."""
    if _isinstance(kinds, tuple):
        for kind in kinds:
            yield from _flatten_types(kind)
    else:
        yield from getattr(kinds, "__args__", (kinds,)) if _type(kinds).__name__ == "UnionType" else (kinds,)


def _is_subclass(value_type: type, kind: Any) -> bool:
    return issubclass(value_type, kind) if _isinstance(kind, _type) else False


def _is_callable(value: Any, /) -> bool:
    if _type(value) not in PROXIES:
        return _callable(value)
    return any("__call__" in vars(kind) for kind in resolve_type(value).__mro__)


class _TypeBuiltin:
    """`type` with support for proxies. In every other use it behaves as `type` itself, also as a base class."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and _type(args[0]) in PROXIES:
            return resolve_type(args[0])
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


_REPLACEMENTS = {"isinstance": _is_instance, "callable": _is_callable, "type": _TypeBuiltin()}
