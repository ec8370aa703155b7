"""The drawing of images, whose values are colors."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing.batch_drawing import BatchDrawing
from surgery.drawing.host_copies import HostCopy
from surgery.types import LayoutDecision, Picture

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Limits, Recipe, TileLayout

_IMAGE = LayoutDecision("image", "its values are colors")


class ColorImageDrawing(BatchDrawing):
    """Draws images of 1 or 3 channels in their colors. 2 or 6 channels are two images, which are drawn side by side.

    `limits` are the values of black and of white.
    """

    def __init__(self, values: Tensor, limits: Limits, recipe: Recipe) -> None:
        low, high = (torch.tensor(limit, dtype=torch.float64).reshape(-1, 1, 1) for limit in limits)
        recipe = replace(recipe, normalizer=lambda _: (low, high), transforms=())
        super().__init__(values, recipe, layout_decision=_IMAGE)
        self._limits = tuple(torch.broadcast_tensors(low, high))

    @property
    def _has_colors(self) -> bool:
        return True

    def quantize_now(self, *, pixels: bool) -> int:
        """Compute all that the facts, and, if `pixels`, the pictures need, and release the values."""
        if pixels and not self._live.is_released:
            self._colors  # noqa: B018 - a cached property
        return super().quantize_now(pixels=pixels)

    def _direct_layout(self, maps: Tensor) -> TileLayout | None:  # noqa: ARG002
        return None  # the pictures are not made of codes

    @cached_property
    def _colors(self) -> HostCopy:
        """``(B, C, H, W)`` uint8."""
        maps, all_finite = self._live.maps, self._extremes.all_finite
        batch, channels, height, width = maps.shape
        low, high = (limit.to(maps.device).expand(channels, 1, 1) for limit in self._limits)
        scale = 255 / (high - low)
        colors = torch.empty(maps.shape, dtype=torch.uint8, device=maps.device)
        # In float64 like the limits. All channels share two buffers, which stay in the cache.
        scaled = torch.empty((height, width), dtype=torch.float64, device=maps.device)
        # By way of int16, since torch has vector code for both of these conversions and none for the direct one.
        integers = torch.empty((height, width), dtype=torch.int16, device=maps.device)
        for image, channel in itertools.product(range(batch), range(channels)):
            scaled.copy_(maps[image, channel]).sub_(low[channel]).mul_(scale[channel])
            if not all_finite:
                scaled.nan_to_num_(0, 255, 0)
            colors[image, channel] = integers.copy_(scaled.round_().clamp_(0, 255))
        return HostCopy(colors)

    def _draw(self, position: int) -> tuple[Picture, ...]:
        low, high = (limit.flatten().numpy() for limit in self._limits)
        colors = self._colors.numpy()[position]
        images = np.split(colors, 2) if len(colors) % 2 == 0 else [colors]
        pixels = [np.stack([image[channel % len(image)] for channel in range(3)], -1) for image in images]
        return (Picture(np.concatenate(pixels, 1), None, low, high),)
