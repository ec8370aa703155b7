"""Tensors on their way from a device to the host's memory."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class HostCopy:
    """A tensor or an array in the host's memory, or on its way there.

    From a CUDA device it is copied to pinned memory on a stream of its own, behind what has been computed so far:
    whoever asks for it waits, and the device does not.
    """

    def __init__(self, values: Tensor | NDArray[Any]) -> None:
        self._event: torch.cuda.Event | None = None
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
                self._event = torch.cuda.Event()
                self._event.record(side)
            values.record_stream(side)  # its memory is not given to others before it was read
            self._array = here.numpy()

    @property
    def is_complete(self) -> bool:
        """Whether nobody has to wait for it."""
        return self._event is None

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return self._array.nbytes

    def numpy(self) -> NDArray[Any]:
        """Its values, once they are there."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._array


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
