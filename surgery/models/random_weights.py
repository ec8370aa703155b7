"""Which parameters of a model have random values: those that random numbers were written to while it was built."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import is_lazy

from surgery.eager import DispatchMode
from surgery.graph import named_tensors
from surgery.models.seeding import seeded_generators

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

_SAMPLE_SIZE = 16
"""Values of a parameter that are kept, to find out later whether it still has its first values."""


@contextmanager
def track_random_weights(seed: int) -> Iterator[RandomnessTracker]:
    """Within the block, seed the random generators and watch which tensors random numbers are written to.

    The generators have their former state afterwards. Raises ModelError for a seed that torch can't take.
    """
    with seeded_generators(seed), RandomnessTracker() as tracker:
        yield tracker


class RandomnessTracker(DispatchMode):
    """Watches the operations of this thread, and knows which memory has random values.

    Memory becomes random if random numbers are written to it, or values that are computed from random ones. It ceases
    to be if other values are copied over all of it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._random: dict[int, list[Any]] = {}
        """The address of each random storage, with the storage (so that no other gets its address) and the number of
        its bytes that were not copied over."""

    def is_random(self, tensor: Tensor) -> bool:
        """Return whether a tensor has random values."""
        return any(address in self._random for address, _ in _storages(tensor))

    def sample_random_parameters(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the names of a model's random parameters, with some values of each."""
        samples = {name: sample_values(value) for name, value in model.named_parameters() if self.is_random(value)}
        return {name: sample for name, sample in samples.items() if sample.numel()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        arguments = [value for _, value in named_tensors([args, kwargs])]
        results = [value for _, value in named_tensors(result)]
        if torch.Tag.nondeterministic_seeded in func.tags:
            for value in results:
                self._mark(value)
        elif func.overloadpacket is torch.ops.aten.copy_:
            if self.is_random(arguments[1]):
                self._mark(arguments[0])
            else:
                self._clear(arguments[0])
        elif func.overloadpacket in (torch.ops.aten.zero_, torch.ops.aten.fill_):
            self._clear(arguments[0])
        elif any(self.is_random(value) for value in arguments):
            inputs = {address for value in arguments for address, _ in _storages(value)}
            for value in results:
                if not any(address in inputs for address, _ in _storages(value)):
                    self._mark(value)
        return result

    def _mark(self, tensor: Tensor) -> None:
        for address, storage in _storages(tensor):
            self._random[address] = [storage, storage.nbytes()]

    def _clear(self, tensor: Tensor) -> None:
        """Count the bytes of a tensor as copied over: a weight may be copied piece by piece."""
        for address, _ in _storages(tensor):
            if entry := self._random.get(address):
                entry[1] -= tensor.numel() * tensor.element_size()
                if entry[1] <= 0:
                    del self._random[address]


def _storages(tensor: Tensor) -> Iterator[tuple[int, Any]]:
    """Yield the storage of a tensor with its address; nothing for tensors without one."""
    if tensor.layout is torch.strided and not is_lazy(tensor):
        storage = tensor.untyped_storage()
        yield storage._cdata, storage  # noqa: SLF001 - the storage's own address: that of its data may be 0


def sample_values(tensor: Tensor) -> Tensor:
    """Return up to 16 values spread over a tensor, as float32 on the CPU; empty if it has no values."""
    if tensor.is_meta or tensor.layout is not torch.strided or not tensor.numel():
        return torch.empty(0)
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, len(flat) // _SAMPLE_SIZE)][:_SAMPLE_SIZE].cpu().to(torch.float32, copy=True)
