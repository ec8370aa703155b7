"""A sequence whose items are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

T_co = TypeVar("T_co", covariant=True)


class LazySequence(Sequence[T_co]):
    """A sequence that makes each item when it is asked for; a slice is a list of items."""

    __slots__ = ()

    @abstractmethod
    def item(self, number: int) -> T_co:
        """Return the item with a number, which is in range."""

    @overload
    def __getitem__(self, number: int, /) -> T_co: ...
    @overload
    def __getitem__(self, number: slice, /) -> list[T_co]: ...
    def __getitem__(self, number: int | slice, /) -> T_co | list[T_co]:
        if isinstance(number, slice):
            return [self.item(each) for each in range(*number.indices(len(self)))]
        return self.item(range(len(self))[number])
