"""The readers that come with the project: images, and tensors in files of numpy, safetensors and torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import ImageError, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from surgery.types import Reader


@dataclass(frozen=True, slots=True)
class ImageReader:
    """An image. A run has it read in the size, the range and the channels that its network takes.

    The values `black` and `white` of the file become the two ends of the range; `white` None is 255 for 8 bits, 1 for
    floats up to 1, and of 16 bits the greatest value of as many bits as the image needs. `indices` reads the indices of
    an image with a palette in place of its colors. For an input beside the image, such as a mask, `channels` (None: 1
    for a gray file, else 3) and the ends `low` and `high` of the range (None: those of the run) can be set too.
    """

    black: float = 0.0
    white: float | None = None
    indices: bool = False
    channels: int | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.white is not None and not self.black < self.white:
            raise ImageError(f"black is less than white, not {self.black:g} and {self.white:g}")

    def __call__(self, path: Path, /) -> Tensor:
        from surgery.images import load_image

        low = -1.0 if self.low is None else self.low
        high = 1.0 if self.high is None else self.high
        depth: dict[str, Any] = {"black": self.black, "white": self.white, "indices": self.indices}
        return load_image(path, channels=self.channels or 3, range=(low, high), **depth)


@dataclass(frozen=True, slots=True)
class TensorReader:
    """An input that is numbers already: ``(1, C, H, W)``, ``(C, H, W)`` or ``(H, W)`` of any real dtype, as float32.

    From `.npy`, `.npz`, `.safetensors`, `.pt` and `.pth` files, in which nothing is run. `key` names the one to take
    where a file holds several.
    """

    key: str | None = None
    suffixes: ClassVar[tuple[str, ...]] = (".npy", ".npz", ".safetensors", ".pt", ".pth")

    def __call__(self, path: Path, /) -> Tensor:
        import torch

        if path.suffix.lower() not in self.suffixes:
            raise ImageError(f"{path} is no file of tensors: {', '.join(self.suffixes)}")
        try:
            content = _content(path)
        except FileNotFoundError:
            raise ImageError(f"there is no file {path}") from None
        except Exception as error:
            raise ImageError(f"can't read {path}: {type(error).__name__}: {first_line(error)}") from error
        if isinstance(content, dict):
            content = self._one_of(path, content)
        if not isinstance(content, torch.Tensor) or content.is_complex():
            kind = content.dtype if isinstance(content, torch.Tensor) else type(content).__name__
            raise ImageError(f"{path} holds {kind}, not a tensor of real numbers")
        shape = tuple(content.shape)
        if content.ndim not in (2, 3, 4) or (content.ndim == 4 and shape[0] != 1) or content.numel() == 0:
            raise ImageError(f"{path} holds {shape}, and one input is (1, C, H, W), (C, H, W) or (H, W)")
        values = content.dequantize() if content.is_quantized else content
        return values.reshape((1,) * (4 - values.ndim) + shape).to(torch.float32)

    def _one_of(self, path: Path, content: Mapping[str, Any]) -> Any:
        if self.key is not None:
            if self.key not in content:
                raise ImageError(f"{path} has no {self.key!r}; there is {_some(content)}")
            return content[self.key]
        if len(content) != 1:
            raise ImageError(f"{path} holds {_some(content) or 'nothing'}; name one: tensor:key=NAME")
        return next(iter(content.values()))


def _content(path: Path) -> Any:
    """A tensor, or a dict of them."""
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


def _some(content: Mapping[str, Any]) -> str:
    names = list(map(str, content))
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


READERS: dict[str, Reader] = {"image": ImageReader(), "tensor": TensorReader()}
