"""The augmented assignments as functions, for graphs.

torch.fx has no in-place operators of its own: while it traces, ``x += y`` falls back to ``x = x + y``, which is another
result wherever something else shares x's memory. Nor can `operator.iadd` stand in a graph, since the code generated for
it is ``x += y``, which would change a number for the later users of the name `x` too.
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
    """``target.name = value``, of `data` or `requires_grad` say."""
    setattr(target, name, value)


AUGMENTED_ASSIGNMENTS = (iadd, isub, imul, itruediv, ifloordiv, imod, ipow, imatmul, iand, ior, ixor, ilshift, irshift)
