"""Copies of the values of a run that share memory among themselves as the values do."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.graph import find_instances, storage_id

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import TypeVar

    K = TypeVar("K")


def copy_values(values: Mapping[K, Any], shared: Collection[int] = ()) -> dict[K, Any]:
    """Return copies of values by the same keys: what is one tensor stays one, and a view stays a view.

    So an operation that works in place on a copy changes what it would have changed on the originals, and no original.
    Memory whose `storage_id` is in `shared` is not copied, and modules are not copied. Raises an error of any class for
    an object that can't be copied.
    """
    copier = _Copier(shared)
    return {key: copier.copy(value) for key, value in values.items()}


class _Copier:
    def __init__(self, shared: Collection[int]) -> None:
        self._shared = shared
        self._memory: dict[int, Any] = {}
        """The copies of memory, by the identity of the original."""
        self._memo: dict[int, Any] = {}
        """That of `copy.deepcopy`: copies by the identity of the original."""

    def copy(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._copy_tensor(value)
        for part in find_instances(value, (Tensor, nn.Module, torch.Generator)):
            if isinstance(part, Tensor):
                self._copy_tensor(part)
            elif isinstance(part, torch.Generator):
                self._memo.setdefault(id(part), part.clone_state())
            else:
                self._memo[id(part)] = part
        return copy.deepcopy(value, self._memo)

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._memo:
            self._memo[id(tensor)] = self._make_copy(tensor)
        copied: Tensor = self._memo[id(tensor)]
        return copied

    def _make_copy(self, tensor: Tensor) -> Tensor:
        place = storage_id(tensor)
        if place in self._shared:
            return tensor
        is_plain = type(tensor) is Tensor and tensor.layout is torch.strided and not tensor.is_quantized
        if place is None or not is_plain or tensor.is_nested or tensor.is_conj() or tensor.is_neg():
            return tensor.detach().clone()
        if place not in self._memory:
            self._memory[place] = tensor.untyped_storage().clone()
        view = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return view.set_(self._memory[place], tensor.storage_offset(), tensor.shape, tensor.stride())
