"""The first difference between two lists of named values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from surgery.graph import bitwise_equal, describe_difference

if TYPE_CHECKING:
    from collections.abc import Sequence


def first_difference(expected: Sequence[tuple[str, Any]], actual: Sequence[tuple[str, Any]]) -> str | None:
    """Return the first difference between named values in words, or None if all bits are the same."""
    if [name for name, _ in expected] != [name for name, _ in actual]:
        return f"there are {len(actual)}, not {len(expected)}"
    for (name, one), (_, other) in zip(expected, actual, strict=True):
        if not _is_same(one, other):
            difference = describe_difference(other, one)
            return f"{name}: {difference}" if name else difference
    return None


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and bitwise_equal(one, other)
    return bool(one is other or one == other)
