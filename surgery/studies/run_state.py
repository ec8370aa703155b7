"""What a run reads and writes beside its values: random generators, buffers, the mode of autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.eager import generator_states, restore_generators

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


class RunState:
    """The state of a run at one point, which can be restored any number of times."""

    def __init__(self, tensors: Iterable[Tensor], device: torch.device) -> None:
        """`tensors` are those that the model keeps and may write to, on `device`."""
        self._tensors = [(tensor, tensor.clone()) for tensor in tensors]
        self._device = device
        self._generator = torch.get_rng_state()
        self._device_generator = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._others = generator_states()
        self._has_gradients = torch.is_grad_enabled()

    def restore(self) -> None:
        """Bring everything back to how it was."""
        with torch.no_grad():
            for tensor, value in self._tensors:
                tensor.copy_(value)
        torch.set_rng_state(self._generator)
        if self._device_generator is not None:
            torch.cuda.set_rng_state(self._device_generator, self._device)
        restore_generators(self._others)
        torch.set_grad_enabled(self._has_gradients)
