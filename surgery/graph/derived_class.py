"""Models that behave as their class says, and do more: their class is derived from the user's at run time."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound="DerivedModel")

_PREFIX = "_surgery_"
"""The beginning of the names of all attributes that an instance has beside those of the user's class."""


class DerivedModel(nn.Module):
    """The base of a class that is derived at run time, with a user's class as its second base.

    An instance keeps all that the user's class defines: methods, `state_dict`, the signature of its `forward`. It can
    be copied and pickled wherever an instance of the user's class can. Its own attributes begin with ``_surgery_``.
    """

    def __init_subclass__(cls, **_options: Any) -> None:
        """Do nothing: the user's class may register each of its subclasses, and this one is none of the user's."""

    def __reduce__(self) -> tuple[Any, ...]:
        own, users = type(self).__bases__
        return _restore, (own, users, own_attributes(self)), self.__getstate__()  # type: ignore[no-untyped-call]


def derive_class(own: type[M], users: type[nn.Module]) -> type[M]:
    """Return the class with the bases `own` and `users`, the same one each time, named as the user's class is."""
    for derived in type.__subclasses__(own):
        if derived.__bases__ == (own, users):
            return derived
    names = {name: vars(users)[name] for name in ("__module__", "__qualname__", "__doc__") if name in vars(users)}
    if hasattr(users, "__deepcopy__"):
        names["__deepcopy__"] = _deepcopy_of_derived
    # Not `type(users)(...)`: a metaclass of the user may register the class, or want other arguments.
    kind = type(users) if issubclass(type(users), type(own)) else type(own)
    return type.__new__(kind, users.__name__, (own, users), names)  # type: ignore[return-value]


def own_attributes(model: nn.Module) -> dict[str, Any]:
    """Return the attributes that a derived model has beside those of the user's class; none for any other model."""
    if not isinstance(model, DerivedModel):
        return {}
    return {name: value for name, value in vars(model).items() if name.startswith(_PREFIX)}


def _deepcopy_of_derived(self: DerivedModel, memo: dict[int, Any]) -> nn.Module:
    """Copy a model whose class says itself how, and may return a new instance of the user's class."""
    derived = type(self)
    result: nn.Module = derived.__bases__[1].__deepcopy__(self, memo)  # type: ignore[attr-defined]
    vars(result).update({name: copy.deepcopy(value, memo) for name, value in own_attributes(self).items()})
    object.__setattr__(result, "__class__", derived)
    return result


def _restore(own: type[M], users: type[nn.Module], attributes: dict[str, Any]) -> M:
    derived = derive_class(own, users)
    result = derived.__new__(derived)
    vars(result).update(attributes)
    return result
