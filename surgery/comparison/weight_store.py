"""The weights of many models: the first stay in memory, and the others are read from temporary files as needed."""

from __future__ import annotations

import itertools
import os
import tempfile
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

MAX_BYTES = 1 << 30
"""The weights that stay in memory: as of five of pix2pix's generators."""
_ALIGNMENT = 64


class WeightStore:
    """Takes models, and moves the weights of those that come after `limit` bytes to files that have no name.

    The files are mapped into memory, so that the weights are tensors like others. The system keeps of them what is
    used, and gives the memory back when it is needed for something else. They are gone when the models are, or the
    process. Where there is no room on the disk, weights stay in memory.
    """

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self._limit = limit
        self._held = 0

    def add(self, model: nn.Module) -> None:
        """Take a model that nothing else has, and that is not to be trained."""
        tensors = [
            tensor
            for tensor in itertools.chain(model.parameters(), model.buffers())
            if type(tensor.detach()) is Tensor and tensor.device.type == "cpu" and tensor.is_contiguous()
            if tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_neg() and tensor.numel()
        ]
        size = sum(_room(tensor) for tensor in tensors)
        if self._held + size <= self._limit:
            self._held += size
            return
        with tempfile.TemporaryFile() as file:
            try:
                _reserve(file, size)
            except OSError:
                self._held += size
                return
            mapped = np.memmap(file, np.uint8, "r+", shape=(size,))
        offset = 0
        with torch.no_grad():
            for tensor in tensors:
                storage = torch.from_numpy(mapped[offset : offset + tensor.nbytes])  # of this tensor alone
                part = storage.view(tensor.dtype).view(tensor.shape)
                part.copy_(tensor)
                tensor.data = part
                offset += _room(tensor)


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _reserve(file: BinaryIO | object, size: int) -> None:
    """Make a file as long as this. Raises OSError if the disk has no room for it: later that would be a crash."""
    number = cast("BinaryIO", file).fileno()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(number, 0, size)
    else:
        cast("BinaryIO", file).write(bytes(size))
        cast("BinaryIO", file).flush()
