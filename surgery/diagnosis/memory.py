"""Which elements of the memory of tensors a set holds. Views and writes in place need no rules: they are memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Place(NamedTuple):
    """Where the elements of a tensor are in memory, in bytes."""

    storage: int
    """The identity of the memory."""
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    item: int
    """The bytes of an element."""

    @classmethod
    def of(cls, tensor: Tensor) -> Place:
        """Return the place of a strided tensor."""
        item = tensor.element_size()
        stride = tuple(step * item for step in tensor.stride())
        storage = tensor.untyped_storage()._cdata  # noqa: SLF001
        return cls(storage, tuple(tensor.shape), stride, int(tensor.storage_offset()) * item, item)

    @property
    def overlaps(self) -> bool:
        """Whether elements of the tensor may share memory with each other, as those of an expanded one do."""
        reached = self.item
        for step, count in sorted(
            (step, count) for step, count in zip(self.stride, self.size, strict=True) if count > 1
        ):
            if step < reached:
                return True
            reached = step * (count - 1) + reached
        return False


class MemorySet:
    """A set of bytes in several memories, read and changed through the places of tensors."""

    def __init__(self, sizes: Mapping[int, int], units: Mapping[int, int]) -> None:
        """`sizes` are the bytes of each memory, and `units` how many of its bytes are kept as one."""
        self._sizes = sizes
        self._units = units
        self._held: dict[int, Tensor] = {}

    def read(self, place: Place) -> Tensor | None:
        """Return which elements are in the set, bool of the tensor's shape; None if none is."""
        held = self._held.get(place.storage)
        if held is None:
            return None
        found = self._view(held, place)
        found = found.any(-1) if found.shape[-1] > 1 else found[..., 0].clone()
        return found if found.any() else None

    def remove(self, place: Place) -> None:
        """Remove all elements of a tensor."""
        held = self._held.get(place.storage)
        if held is not None:
            self._view(held, place).fill_(value=False)

    def add(self, place: Place, elements: Tensor) -> None:
        """Add elements of a tensor: bool, which broadcasts to its shape. Memory that is not known is left out."""
        if place.storage not in self._sizes:
            return
        elements = elements.expand(place.size)[..., None]
        if place.storage not in self._held:
            count = self._sizes[place.storage] // self._units[place.storage]
            self._held[place.storage] = torch.zeros(count, dtype=torch.bool)
        held = self._held[place.storage]
        if place.overlaps:
            positions = self._view(torch.arange(len(held)), place)
            held[positions[elements.expand(positions.shape)]] = True
        else:
            view = self._view(held, place)
            view |= elements

    def _view(self, held: Tensor, place: Place) -> Tensor:
        """Return the units of each element of a tensor, in the shape of the tensor with an axis more."""
        unit = self._units[place.storage]
        stride = [step // unit for step in place.stride]
        return held.as_strided((*place.size, place.item // unit), (*stride, 1), place.offset // unit)
