"""Tensors on their way from a device to the host's memory."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Fetched:
    """A tensor in the host's memory, or on its way there.

    From a CUDA device it is copied to pinned memory on a stream of its own, behind what has been computed so far:
    whoever asks for it waits, and the device does not.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._array: NDArray[Any] | None = None
        if tensor.device.type != "cuda":
            self._here = tensor if tensor.device.type == "cpu" else tensor.cpu()
            return
        side = _side_stream(tensor.device)
        side.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(side):
            self._here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._here.copy_(tensor, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record(side)
        tensor.record_stream(side)  # its memory is not given to others before it was read

    @property
    def is_here(self) -> bool:
        """Whether nobody has to wait for it."""
        return self._arrived is None

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return self._here.nbytes

    def numpy(self) -> NDArray[Any]:
        """Its values, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
        if self._array is None:
            self._array = self._here.numpy()
        return self._array


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
