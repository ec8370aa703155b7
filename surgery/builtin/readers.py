"""The readers that come with the project: images, arrays of numbers, sound."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.builtin.tensor_files import TENSOR_SUFFIXES, check_tensor, load_tensors, select_tensor
from surgery.builtin.waveforms import WaveformReader
from surgery.errors import ImageError
from surgery.inputs import ImageReader, suffix_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.inputs import FilePatterns
    from surgery.stages import Reader


@dataclass(frozen=True, slots=True)
class TensorReader:
    """Reads maps: a tensor ``(1, C, H, W)``, ``(C, H, W)`` or ``(H, W)`` of any real dtype, as float32.

    The file is `.npy`, `.npz`, `.safetensors`, `.pt` or `.pth`; no code in it runs. `key` names the tensor if a file
    holds several.
    """

    key: str | None = None
    suffixes: ClassVar[tuple[str, ...]] = TENSOR_SUFFIXES

    def __call__(self, path: Path, /) -> Tensor:
        import torch

        content = load_tensors(path, self.suffixes)
        if isinstance(content, dict):
            content = select_tensor(path, content, self.key, "tensor")
        content = check_tensor(path, content)
        shape = tuple(content.shape)
        if content.ndim not in (2, 3, 4) or (content.ndim == 4 and shape[0] != 1) or content.numel() == 0:
            raise ImageError(f"{path} holds {shape}, and one input is (1, C, H, W), (C, H, W) or (H, W)")
        return content.reshape((1,) * (4 - content.ndim) + shape).to(torch.float32)


@dataclass(frozen=True, slots=True)
class ArrayReader:
    """Reads arrays as they are: token ids, masks, embeddings, latents, spectrograms.

    The file is `.npy`, `.npz`, `.safetensors`, `.pt`, `.pth` or `.json`; no code in it runs. The first axis is the
    batch, of size 1; it is added where there is none. Integers become int64, booleans stay. A file that holds several
    arrays gives the inputs of their names, or the one that is called `key`.
    """

    key: str | None = None
    suffixes: ClassVar[tuple[str, ...]] = (*TENSOR_SUFFIXES, ".json")

    def __call__(self, path: Path, /) -> Tensor | Mapping[str, Tensor]:
        content = load_tensors(path, self.suffixes)
        if not isinstance(content, dict):
            return _as_one_input(path, content)
        if self.key is not None:
            return _as_one_input(path, select_tensor(path, content, self.key, "array"))
        if not content:
            raise ImageError(f"{path} holds nothing")
        return {name: _as_one_input(path, value) for name, value in content.items()}


def _as_one_input(path: Path, value: Any) -> Tensor:
    import torch

    tensor = check_tensor(path, value)
    if tensor.numel() == 0:
        raise ImageError(f"{path} holds an empty array {tuple(tensor.shape)}")
    if not tensor.is_floating_point() and tensor.dtype is not torch.bool:
        tensor = tensor.long()
    return tensor if tensor.ndim and len(tensor) == 1 else tensor[None]


READERS: dict[str, Reader] = {
    "image": ImageReader(),
    "tensor": TensorReader(),
    "array": ArrayReader(),
    "waveform": WaveformReader(),
}


def default_reader(files: FilePatterns) -> Reader:
    """Return what reads `files` if the user doesn't say it, by the suffix of the first: folders are read as images."""
    first = files if isinstance(files, (str, os.PathLike)) else next(iter(files), "")
    suffix = suffix_of(first)
    for reader in (ArrayReader(), WaveformReader()):
        if suffix in reader.suffixes:
            return reader
    return ImageReader()
