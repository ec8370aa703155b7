"""Models that behave as their class says, and do more: their class is derived from the user's at run time."""

from __future__ import annotations

import abc
import copy
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from surgery.errors import TraceError

if TYPE_CHECKING:
    from collections.abc import Callable

M = TypeVar("M", bound="DerivedModel")

_PREFIX = "_surgery_"
"""The beginning of the names of all attributes that an instance has beside those of the user's class."""


class DerivedModel(nn.Module):
    """The base of a class that is derived at run time, with a user's class as its second base.

    An instance stands for a model of the user's class, with which it shares all attributes: see `inner_model`. It keeps
    all that the user's class defines: methods, `state_dict`, the signature of its `forward`. It can be copied and
    pickled wherever an instance of the user's class can. Its own attributes begin with ``_surgery_``.
    """

    __slots__ = ("_surgery_inner",)
    _surgery_inner: nn.Module

    def __init_subclass__(cls, **_options: Any) -> None:
        """Do nothing: the user's class may register each of its subclasses, and this one is none of the user's."""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return _restore, (type(self).__bases__[0], inner_model(self), own_attributes(self))

    def __copy__(self) -> nn.Module:
        return _restore(type(self).__bases__[0], copy.copy(inner_model(self)), own_attributes(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy_derived(self, memo, copy.deepcopy)


def derive_model(own: type[M], inner: nn.Module) -> M:
    """Return a model of class `own`, and of the class of `inner`, that has all attributes in common with `inner`."""
    derived = derive_class(own, type(inner))
    result = object.__new__(derived)
    object.__setattr__(result, "__dict__", vars(inner))
    object.__setattr__(result, "_surgery_inner", inner)  # not as a submodule
    return result


def inner_model(model: DerivedModel) -> nn.Module:
    """Return the model of the user's class that a derived model stands for.

    It is the one to run: forward may ask for ``type(self)``, and hooks and submodules may refer to it.
    """
    return model._surgery_inner  # noqa: SLF001


def derive_class(own: type[M], users: type[nn.Module]) -> type[M]:
    """Return the class with the bases `own` and `users`, the same one each time, named as the user's class is.

    Raises TraceError if the user's class has slots.
    """
    for derived in type.__subclasses__(own):
        if derived.__bases__ == (own, users):
            return derived
    names = {name: vars(users)[name] for name in ("__module__", "__qualname__", "__doc__") if name in vars(users)}
    # Not `type(users)(...)`: a metaclass of the user may register the class, or want other arguments.
    kind = type(users) if issubclass(type(users), type(own)) else type(own)
    try:
        result: Any = type.__new__(kind, users.__name__, (own, users), names)
    except TypeError as error:
        raise TraceError(f"{users.__name__} can't be observed: remove __slots__ from its class") from error
    if isinstance(result, abc.ABCMeta):  # otherwise it would write to the cache of the user's class
        abc._abc_init(result)  # type: ignore[attr-defined]  # noqa: SLF001
    return result  # type: ignore[no-any-return]


def own_attributes(model: nn.Module) -> dict[str, Any]:
    """Return the attributes that a derived model has beside those of the user's class; none for any other model."""
    if not isinstance(model, DerivedModel):
        return {}
    return {name: value for name, value in vars(model).items() if name.startswith(_PREFIX)}


def copy_derived(
    model: DerivedModel, memo: dict[int, Any], copy_inner: Callable[[nn.Module, dict[int, Any]], nn.Module]
) -> Any:
    """Return a copy of a derived model, whose inner model `copy_inner` copies with a memo as `copy.deepcopy` has."""
    inner = copy_inner(inner_model(model), memo)
    for name, value in own_attributes(model).items():  # the class may have its own idea of its state
        if name not in vars(inner):
            vars(inner)[name] = copy.deepcopy(value, memo)
    memo[id(model)] = derive_model(type(model).__bases__[0], inner)
    return memo[id(model)]


def _restore(own: type[M], inner: nn.Module, attributes: dict[str, Any]) -> M:
    vars(inner).update(attributes)
    return derive_model(own, inner)
