"""Images drawn as the colors that they are."""

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

IMAGE = LayoutDecision("image", "its values are colors")


class ColorImageDrawing(BatchDrawing):
    """Draws images of 3 channels or 1, or of 6 or 2, which are two side by side, as the colors that they are."""

    def __init__(self, values: Tensor, limits: Limits, recipe: Recipe) -> None:
        low, high = (torch.tensor(limit, dtype=torch.float64).reshape(-1, 1, 1) for limit in limits)
        recipe = replace(recipe, normalizer=lambda _: (low, high), transforms=())
        super().__init__(values, recipe, layout_decision=IMAGE)
        self.limits = tuple(torch.broadcast_tensors(low, high))

    def quantize_now(self, *, pixels: bool) -> int:
        if pixels and self._values is not None:
            self._colors  # noqa: B018
        return super().quantize_now(pixels=pixels)

    def _direct_layout(self, maps: Tensor) -> TileLayout | None:  # noqa: ARG002 - none of its pictures is made of codes
        return None

    @cached_property
    def _colors(self) -> HostCopy:
        maps, finite = self._maps, self._extremes.finite
        batch, channels, height, width = maps.shape
        low, high = (limit.to(maps.device).expand(channels, 1, 1) for limit in self.limits)
        scale = 255 / (high - low)
        colors = torch.empty(maps.shape, dtype=torch.uint8, device=maps.device)
        # In float64, as the limits are. One channel after the other in the same memory, so that all stays in the cache.
        scaled = torch.empty((height, width), dtype=torch.float64, device=maps.device)
        whole = torch.empty((height, width), dtype=torch.int16, device=maps.device)  # to and from which is vectorised
        for image, channel in itertools.product(range(batch), range(channels)):
            scaled.copy_(maps[image, channel]).sub_(low[channel]).mul_(scale[channel])
            if not finite:
                scaled.nan_to_num_(0, 255, 0)
            colors[image, channel] = whole.copy_(scaled.round_().clamp_(0, 255))
        return HostCopy(colors)

    def _draw(self, position: int) -> tuple[Picture, ...]:
        low, high = (limit.flatten().numpy() for limit in self.limits)
        colors = self._colors.numpy()[position]
        halves = np.split(colors, 2) if len(colors) % 2 == 0 else [colors]  # of an AB pair, side by side
        pixels = [np.stack([half[channel % len(half)] for channel in range(3)], -1) for half in halves]
        return (Picture(np.concatenate(pixels, 1), None, low, high),)
