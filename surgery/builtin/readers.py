"""The readers that come with the project: image files, and tensors in files of NumPy, safetensors and torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import ImageError, first_line
from surgery.inputs import ImageReader
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.stages import Reader


@dataclass(frozen=True, slots=True)
class TensorReader:
    """Reads a tensor ``(1, C, H, W)``, ``(C, H, W)`` or ``(H, W)`` of any real dtype, as float32.

    The file is `.npy`, `.npz`, `.safetensors`, `.pt` or `.pth`; no code in it runs. `key` names the tensor if a file
    holds several.
    """

    key: str | None = None
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz", ".safetensors", ".pt", ".pth")

    def __call__(self, path: Path, /) -> Tensor:
        import torch

        if path.suffix.lower() not in self.suffixes:
            raise ImageError(f"{path} is not a file of tensors: {', '.join(self.suffixes)}")
        try:
            content = _load_content(path)
        except FileNotFoundError:
            raise ImageError(f"there is no file {path}") from None
        except Exception as error:
            raise ImageError(f"can't read {path}: {type(error).__name__}: {first_line(error)}") from error
        if isinstance(content, dict):
            content = self._select_tensor(path, content)
        if not isinstance(content, torch.Tensor) or content.is_complex():
            kind = content.dtype if isinstance(content, torch.Tensor) else type(content).__name__
            raise ImageError(f"{path} holds {kind}, not a tensor of real numbers")
        shape = tuple(content.shape)
        if content.ndim not in (2, 3, 4) or (content.ndim == 4 and shape[0] != 1) or content.numel() == 0:
            raise ImageError(f"{path} holds {shape}, and one input is (1, C, H, W), (C, H, W) or (H, W)")
        values = content.dequantize() if content.is_quantized else content
        return values.reshape((1,) * (4 - values.ndim) + shape).to(torch.float32)

    def _select_tensor(self, path: Path, content: Mapping[str, Any]) -> Any:
        if self.key is not None:
            if self.key not in content:
                raise ImageError(f"{path} has no {self.key!r}; there is {abbreviate_list(content, 6)}")
            return content[self.key]
        if len(content) != 1:
            raise ImageError(f"{path} holds {abbreviate_list(content, 6) or 'nothing'}; name one: tensor:key=NAME")
        return next(iter(content.values()))


def _load_content(path: Path) -> Any:
    """Return the content of a file: a tensor, or a dict of tensors."""
    import numpy as np
    import torch

    suffix = path.suffix.lower()
    if suffix == ".npy":
        return torch.from_numpy(np.load(path, allow_pickle=False))
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    if suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


READERS: dict[str, Reader] = {"image": ImageReader(), "tensor": TensorReader()}
