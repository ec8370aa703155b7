"""Functions that are called in graphs for augmented assignments and for assignments to items and attributes.

torch.fx traces ``x += y`` as ``x = x + y``, which gives another result if something else shares the memory of x. A
graph can't call `operator.iadd` either: the generated code would be ``x += y``, which rebinds a number for all later
users of the name x.
"""

from __future__ import annotations

import operator
from typing import Any


def iadd(target: Any, other: Any) -> Any:
    """``target += other``."""
    return operator.iadd(target, other)


def isub(target: Any, other: Any) -> Any:
    """``target -= other``."""
    return operator.isub(target, other)


def imul(target: Any, other: Any) -> Any:
    """``target *= other``."""
    return operator.imul(target, other)


def itruediv(target: Any, other: Any) -> Any:
    """``target /= other``."""
    return operator.itruediv(target, other)


def ifloordiv(target: Any, other: Any) -> Any:
    """``target //= other``."""
    return operator.ifloordiv(target, other)


def imod(target: Any, other: Any) -> Any:
    """``target %= other``."""
    return operator.imod(target, other)


def ipow(target: Any, other: Any) -> Any:
    """``target **= other``."""
    return operator.ipow(target, other)


def imatmul(target: Any, other: Any) -> Any:
    """``target @= other``."""
    return operator.imatmul(target, other)


def iand(target: Any, other: Any) -> Any:
    """``target &= other``."""
    return operator.iand(target, other)


def ior(target: Any, other: Any) -> Any:
    """``target |= other``."""
    return operator.ior(target, other)


def ixor(target: Any, other: Any) -> Any:
    """``target ^= other``."""
    return operator.ixor(target, other)


def ilshift(target: Any, other: Any) -> Any:
    """``target <<= other``."""
    return operator.ilshift(target, other)


def irshift(target: Any, other: Any) -> Any:
    """``target >>= other``."""
    return operator.irshift(target, other)


def setitem(target: Any, key: Any, value: Any) -> None:
    """``target[key] = value``."""
    target[key] = value


def set_attribute(target: Any, name: str, value: Any) -> None:
    """``target.name = value``, for attributes such as `data` and `requires_grad`."""
    setattr(target, name, value)


AUGMENTED_ASSIGNMENTS = (iadd, isub, imul, itruediv, ifloordiv, imod, ipow, imatmul, iand, ior, ixor, ilshift, irshift)
