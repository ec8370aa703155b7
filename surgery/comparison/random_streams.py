"""The random numbers of runs that take turns: each draws from a stream of its own, as if it ran alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


class RandomStream:
    """The state of torch's random generators for one run."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._device = device
        outside = self._get()
        torch.manual_seed(seed)
        self._first = self._own = self._get()
        self._set(outside)
        self._outside = outside

    @property
    def has_drawn(self) -> bool:
        """Whether random numbers were drawn from this stream."""
        pairs = zip(self._first, self._own, strict=True)
        return not all(one is other or torch.equal(one, other) for one, other in pairs if one is not None)  # type: ignore[arg-type]

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within the block, random numbers are drawn from this stream."""
        self.resume()
        try:
            yield
        finally:
            self.pause()

    def resume(self) -> None:
        """Draw from this stream from now on."""
        self._outside = self._get()
        self._set(self._own)

    def pause(self) -> None:
        """Draw from elsewhere again, as before `resume`."""
        self._own = self._get()
        self._set(self._outside)

    @contextmanager
    def peek(self, model: nn.Module) -> Iterator[None]:
        """Within the block, random numbers are those that come next in this stream, which stays where it is.

        The buffers of `model` are afterwards what they were before.
        """
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        own = self._own
        self.resume()
        try:
            yield
        finally:
            self.pause()
            self._own = own
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)

    def _get(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        device = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return torch.get_rng_state(), device

    def _set(self, state: tuple[torch.Tensor, torch.Tensor | None]) -> None:
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.cuda.set_rng_state(state[1], self._device)
