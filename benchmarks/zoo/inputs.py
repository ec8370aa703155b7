"""What the models of the zoos take, as descriptions from which batches are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """A tensor of an input, without the batch."""

    shape: tuple[int, ...]
    other: tuple[int, ...] | None = None
    """The shape at another size; None if there is one size."""
    fill: Callable[[tuple[int, ...], Generator], Tensor] | None = None
    """Makes a tensor of a shape; None for normally distributed values."""
    rows: int = 1
    """The number of rows of an input on the first axis, such as the frames of a video; 0 if the tensor has no batch."""

    def draw(self, batch: int, generator: Generator, *, other: bool) -> Tensor:
        """Return a batch of this tensor."""
        shape = self.other if other and self.other is not None else self.shape
        shape = (batch * self.rows, *shape) if self.rows else shape
        return self.fill(shape, generator) if self.fill else torch.randn(shape, generator=generator)


@dataclass(frozen=True, slots=True)
class Listed:
    """A list that holds what is described once for each input of a batch, without an axis for the batch."""

    item: Any


def floats(*shape: int, other: tuple[int, ...] | None = None, rows: int = 1) -> Drawn:
    """Describe a tensor of normally distributed values."""
    return Drawn(shape, other, rows=rows)


def images(size: int, other: int = 0, channels: int = 3) -> Drawn:
    """Describe a square image."""
    return Drawn((channels, size, size), (channels, other, other) if other else None)


def tokens(length: int = 12, *, other: int = 0, placeholder: tuple[int, int] | None = None) -> Drawn:
    """Describe a sequence of tokens from 3 to 97: those below are special ones, and 98 may stand for an image.

    `placeholder` is a token, and how many of it follow the first one.
    """
    longer = (other or length + 4,)
    if placeholder:
        return Drawn((length,), longer, partial(_fill_tokens, placeholder))
    return integers(length, below=98, least=3, other=longer)


def integers(*shape: int, below: int, least: int = 0, other: tuple[int, ...] | None = None, rows: int = 1) -> Drawn:
    """Describe a tensor of integers."""
    return Drawn(shape, other, partial(_fill_integers, least, below), rows)


def ones(*shape: int, other: tuple[int, ...] | None = None) -> Drawn:
    """Describe a mask that hides nothing."""
    return integers(*shape, below=2, least=1, other=other)


def zeros(*shape: int, other: tuple[int, ...] | None = None) -> Drawn:
    """Describe a tensor of zeros."""
    return integers(*shape, below=1, other=other)


def _fill_integers(least: int, below: int, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randint(least, below, shape, generator=generator)


def _fill_tokens(placeholder: tuple[int, int], shape: tuple[int, ...], generator: Generator) -> Tensor:
    filled = _fill_integers(3, 98, shape, generator)
    token, count = placeholder
    filled[:, 1 : 1 + count] = token
    return filled


def draw(described: Any, batch: int, generator: Generator, *, other: bool = False) -> Any:
    """Return the described value with a batch of each tensor; what is no description stays as it is."""
    if isinstance(described, Drawn):
        return described.draw(batch, generator, other=other)
    if isinstance(described, Listed):
        return [_first(draw(described.item, 1, generator, other=other)) for _ in range(batch)]
    if isinstance(described, tuple | list):
        return type(described)(draw(item, batch, generator, other=other) for item in described)
    if isinstance(described, dict):
        return {name: draw(item, batch, generator, other=other) for name, item in described.items()}
    return described


def _first(value: Any) -> Any:
    """Return the value without the axis of its batch of one."""
    return {name: item[0] for name, item in value.items()} if isinstance(value, dict) else value[0]


def find_tensors(described: Any) -> list[Drawn]:
    """Return the tensors of a description, in order."""
    if isinstance(described, Drawn):
        return [described]
    if isinstance(described, Listed):
        return find_tensors(described.item)
    if isinstance(described, dict):
        described = tuple(described.values())
    return [one for item in described for one in find_tensors(item)] if isinstance(described, tuple | list) else []
