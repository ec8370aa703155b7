"""Numbers of about 32 digits: unevaluated sums of two float64 (Dekker, 1971), elementwise on arrays.

With so many digits, a sum that is rounded to float64 in the end does not depend on the order of its parts.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[Floats, Floats]
"""A number, and what is left of it after it was rounded to float64."""

_SPLIT = 2.0**27 + 1
_OFF_MIDDLE = 0.7 * 2.0**-72


def add(one: Pair, other: Pair) -> Pair:
    """Return the sum of two numbers."""
    high, rest = _sum(one[0], other[0])
    low, last = _sum(one[1], other[1])
    high, rest = _renormalize(high, rest + low)
    return _renormalize(high, rest + last)


def multiply(one: Pair, other: Pair) -> Pair:
    """Return the product of two numbers."""
    high, rest = _product(one[0], other[0])
    return _renormalize(high, rest + (one[0] * other[1] + one[1] * other[0]))


def divide(one: Floats, other: Floats) -> Pair:
    """Return the quotient of two float64, of which the second is not 0."""
    high = one / other
    product, rest = _product(high, other)
    return _renormalize(high, ((one - product) - rest) / other)


def settle(number: Pair) -> Pair:
    """Return the same number with a first part that does not depend on the last digits of the second.

    A sum of few float64 often lies in the middle between two float64, where an error in the 32nd digit decides to which
    it is rounded. So the limits are moved a little away from the middle, to where such sums don't lie.
    """
    high, rest = number
    settled = high + (rest + _OFF_MIDDLE * high)
    settled = np.where(np.isfinite(settled), settled, high)
    return settled, (high - settled) + rest


def _sum(one: Floats, other: Floats) -> Pair:
    """Return a sum in float64, and its error (Knuth)."""
    high = one + other
    part = high - one
    return high, (one - (high - part)) + (other - part)


def _product(one: Floats, other: Floats) -> Pair:
    """Return a product in float64, and its error (Dekker)."""
    high = one * other
    (one_high, one_low), (other_high, other_low) = _split(one), _split(other)
    return high, ((one_high * other_high - high) + one_high * other_low + one_low * other_high) + one_low * other_low


def _split(number: Floats) -> Pair:
    """Return two halves of 26 bits (Veltkamp)."""
    wide = _SPLIT * number
    high = wide - (wide - number)
    return high, number - high


def _renormalize(high: Floats, rest: Floats) -> Pair:
    """Return a number whose second part is the error of the first; 0 where the first has overflowed."""
    total = high + rest
    rest = rest - (total - high)
    return np.where(np.isfinite(rest), total, high), np.where(np.isfinite(rest), rest, 0.0)
