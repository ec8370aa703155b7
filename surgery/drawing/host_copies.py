"""Copies of tensors from a device to the memory of the host."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


class HostCopy:
    """An array in the memory of the host that holds a tensor's values, or will hold them soon.

    A CUDA tensor is copied to pinned memory on a stream of its own, after all work that was enqueued so far. Only a
    reader waits for it, and the device goes on. Tensors and arrays on the host are not copied.
    """

    def __init__(self, values: Tensor | NDArray[Any]) -> None:
        self._pending: torch.cuda.Event | None = None
        if isinstance(values, np.ndarray):
            self._array: NDArray[Any] = values
        elif values.device.type != "cuda":
            self._array = values.cpu().numpy()
        else:
            stream = _copy_stream(values.device)
            stream.wait_stream(torch.cuda.current_stream(values.device))
            with torch.cuda.stream(stream):
                pinned = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
                pinned.copy_(values, non_blocking=True)
                self._pending = torch.cuda.Event()
                self._pending.record(stream)
            values.record_stream(stream)  # else torch could reuse its memory before it is copied
            self._array = pinned.numpy()

    @property
    def is_complete(self) -> bool:
        """Whether the values can be read without waiting."""
        return self._pending is None

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self._array.nbytes

    def numpy(self) -> NDArray[Any]:
        """Return the values. Waits until they are copied."""
        if (pending := self._pending) is not None:  # several threads may wait for it
            pending.synchronize()
            self._pending = None
        return self._array


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
