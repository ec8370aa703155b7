"""Models that behave as their class says, and do more: their class is derived from the user's at run time."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound="DerivedModel")


class DerivedModel(nn.Module):
    """The base of a class that is derived at run time, with a user's class as its second base.

    An instance keeps all that the user's class defines: methods, `state_dict`, the type of its `forward`. It can be
    copied and pickled wherever an instance of the user's class can.
    """

    def __init_subclass__(cls, **_options: Any) -> None:
        """Do nothing: the user's class may register each of its subclasses, and this one is none of the user's."""

    def __reduce__(self) -> tuple[Any, ...]:
        own, users = type(self).__bases__
        return _restore, (own, users), self.__getstate__()  # type: ignore[no-untyped-call]


def derive_class(own: type[M], users: type[nn.Module]) -> type[M]:
    """Return the class with the bases `own` and `users`, the same one each time, named as the user's class is."""
    for derived in type.__subclasses__(own):
        if derived.__bases__ == (own, users):
            return derived
    names = {name: vars(users)[name] for name in ("__module__", "__qualname__", "__doc__") if name in vars(users)}
    # Not `type(users)(...)`: a metaclass of the user may register the class, or want other arguments.
    kind = type(users) if issubclass(type(users), type(own)) else type(own)
    return type.__new__(kind, users.__name__, (own, users), names)  # type: ignore[return-value]


def _restore(own: type[M], users: type[nn.Module]) -> M:
    derived = derive_class(own, users)
    return derived.__new__(derived)
