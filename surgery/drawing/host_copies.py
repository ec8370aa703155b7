"""Tensors on their way from a device to the host's memory."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class Fetched:
    """A tensor or an array in the host's memory, or on its way there.

    From a CUDA device it is copied to pinned memory on a stream of its own, behind what has been computed so far:
    whoever asks for it waits, and the device does not.
    """

    def __init__(self, values: Tensor | NDArray[Any]) -> None:
        self._arrived: torch.cuda.Event | None = None
        if isinstance(values, np.ndarray):
            self._array: NDArray[Any] = values
        elif values.device.type != "cuda":
            self._array = values.cpu().numpy()
        else:
            side = _side_stream(values.device)
            side.wait_stream(torch.cuda.current_stream(values.device))
            with torch.cuda.stream(side):
                here = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
                here.copy_(values, non_blocking=True)
                self._arrived = torch.cuda.Event()
                self._arrived.record(side)
            values.record_stream(side)  # its memory is not given to others before it was read
            self._array = here.numpy()

    @property
    def is_here(self) -> bool:
        """Whether nobody has to wait for it."""
        return self._arrived is None

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return self._array.nbytes

    def numpy(self) -> NDArray[Any]:
        """Its values, once they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
        return self._array


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
