"""Calls of operations as the rules for axes see them: with shapes and axes in place of tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.layouts.axes import Axes


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor argument of an operation."""

    shape: tuple[int, ...]
    axes: Axes


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operation, and the shape of one tensor that it returned."""

    kind: str
    """The kind of the operation: ``conv2d``, ``permute``."""
    label: str
    """The operation as text: ``features.0.0 (conv2d)``."""
    args: Sequence[Any]
    """Positional arguments, with an `Operand` for each tensor."""
    options: dict[str, Any]
    """Keyword arguments, with an `Operand` for each tensor."""
    shape: tuple[int, ...]

    @property
    def operands(self) -> list[Operand]:
        """All tensor arguments in order, also from inside lists and tuples."""
        arguments = flatten_nested([*self.args, *self.options.values()])
        return [argument for argument in arguments if isinstance(argument, Operand)]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return the argument at this position or of this name."""
        return self.args[place] if len(self.args) > place else self.options.get(name, default)


def flatten_nested(values: Sequence[Any]) -> list[Any]:
    """Return the items of nested lists and tuples in order."""
    items: list[Any] = []
    for value in values:
        items += flatten_nested(value) if isinstance(value, (tuple, list)) else [value]
    return items
