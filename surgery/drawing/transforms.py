"""The use of transforms: maps to other maps, checked, and codes of three maps to colors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.text import describe_stage
from surgery.types import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.stages import Transform


def apply_transforms(maps: Tensor, transforms: Sequence[Transform]) -> Tensor:
    """Return the maps ``(B, C', H', W')``, float32 or float64, that the transforms make of ``(B, C, H, W)``, in order.

    Raises RenderError if a transform raises, returns something other than float maps, or writes to its input.
    """
    for transform in transforms:
        maps = _apply_transform(maps, transform)
    if is_color(transforms) and maps.shape[1] != 3:
        raise RenderError(
            f"transform {describe_stage(transforms[-1])} has to return 3 channels of color, not {maps.shape[1]}"
        )
    return maps


def _apply_transform(maps: Tensor, transform: Transform) -> Tensor:
    name = describe_stage(transform)
    # Autograd counts the writes to a tensor, except to inference tensors.
    version = None if maps.is_inference() else maps._version  # noqa: SLF001
    try:
        result = transform(maps)
    except RenderError:
        raise
    except Exception as error:
        raise RenderError(f"transform {name} can't take {tuple(maps.shape)}: {describe_error(error)}") from error
    if version is not None and maps._version != version:  # noqa: SLF001
        raise RenderError(f"transform {name} writes to its input, which is memory of the model; write to a copy")
    if not isinstance(result, torch.Tensor) or result.ndim != 4 or not result.is_floating_point():
        raise RenderError(f"transform {name} has to return (B, C, H, W) float, not {describe_type(result)}")
    if result.shape[0] != maps.shape[0] or result.numel() == 0:
        raise RenderError(f"transform {name} returned {tuple(result.shape)} for maps of {tuple(maps.shape)}")
    return result if result.dtype in (torch.float32, torch.float64) else result.float()


def is_color(transforms: Sequence[Transform]) -> bool:
    """Whether the last transform declares that its maps are red, green and blue."""
    return bool(transforms) and bool(getattr(transforms[-1], "color", False))


def codes_to_rgb(codes: NDArray[np.uint8], special: Iterable[tuple[int, tuple[int, int, int]]]) -> NDArray[np.uint8]:
    """Return codes ``(3, H, W)`` as RGB pixels ``(H, W, 3)``.

    If one of the three codes of a pixel is in `special`, pairs of a code and its color, the pixel has that color.
    """
    scaled = np.rint(codes.astype(np.float32) * (255 / (LEVELS - 1))).clip(0, 255)
    pixels: NDArray[np.uint8] = scaled.astype(np.uint8).transpose(1, 2, 0).copy()
    for code, color in special:
        pixels[(codes == code).any(0)] = color
    return pixels


def describe_type(value: object) -> str:
    """Return what a stage returned as text: shape and dtype of a tensor, else the name of the type."""
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
