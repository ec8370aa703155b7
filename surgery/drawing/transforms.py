"""Transforms at work: maps to other maps, held to their shape, and three maps as colors."""

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
    """``(B, C, H, W)`` maps -> the ``(B, C', H', W')`` float32 or float64 that `transforms` make of them, in order.

    Raises RenderError for one that raises, gives something else, or writes to its input.
    """
    for transform in transforms:
        name = describe_stage(transform)
        before = None if maps.is_inference() else maps._version  # noqa: SLF001 - how autograd knows of writes
        try:
            made = transform(maps)
        except RenderError:
            raise
        except Exception as error:
            raise RenderError(f"transform {name} can't take {tuple(maps.shape)}: {describe_error(error)}") from error
        if before is not None and maps._version != before:  # noqa: SLF001
            raise RenderError(f"transform {name} writes to its input, which are the model's own values")
        if not isinstance(made, torch.Tensor) or made.ndim != 4 or not made.is_floating_point():
            shown = f"{tuple(made.shape)} {made.dtype}" if isinstance(made, torch.Tensor) else type(made).__name__
            raise RenderError(f"transform {name} has to give (B, C, H, W) float, not {shown}")
        if made.shape[0] != maps.shape[0] or made.numel() == 0:
            raise RenderError(f"transform {name} gave {tuple(made.shape)} for maps of {tuple(maps.shape)}")
        maps = made if made.dtype in (torch.float32, torch.float64) else made.float()
    if is_color(transforms) and maps.shape[1] != 3:
        raise RenderError(
            f"transform {describe_stage(transforms[-1])} has to give 3 channels of color, not {maps.shape[1]}"
        )
    return maps


def is_color(transforms: Sequence[Transform]) -> bool:
    """Whether the last of the transforms says that what it gives are red, green and blue."""
    return bool(transforms) and bool(getattr(transforms[-1], "color", False))


def codes_to_rgb(codes: NDArray[np.uint8], marks: Iterable[tuple[int, tuple[int, int, int]]]) -> NDArray[np.uint8]:
    """``(3, H, W)`` codes as ``(H, W, 3)`` RGB; where one of the three is a code of `marks`, its color."""
    scaled = np.rint(codes.astype(np.float32) * (255 / (LEVELS - 1))).clip(0, 255)
    pixels: NDArray[np.uint8] = scaled.astype(np.uint8).transpose(1, 2, 0).copy()
    for code, color in marks:
        pixels[(codes == code).any(0)] = color
    return pixels
