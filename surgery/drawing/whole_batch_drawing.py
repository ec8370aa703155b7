"""The drawing of values that are one activation of a whole batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing.batch_drawing import BatchDrawing
from surgery.drawing.maps import split_by_image
from surgery.types import LayoutDecision, Levels

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Recipe
    from surgery.types import Facts, Picture

_WHOLE = LayoutDecision("whole", "all values of a batch, for facts only")


def move_images_first(values: Tensor, layout_decision: LayoutDecision) -> tuple[Tensor, bool]:
    """Return the values of a batch with the axis of the images first, and whether the second axis counts windows."""
    values = values.movedim(layout_decision.batch_axis, 0)
    parts = split_by_image(values, layout_decision.images or len(values))
    return (values, False) if parts is None else (parts, parts.ndim > values.ndim)


class WholeBatchDrawing:
    """Draws each image of a batch, and takes the facts of all images together."""

    def __init__(self, values: Tensor, recipe: Recipe, layout_decision: LayoutDecision | None = None) -> None:
        if values.layout not in (torch.strided, torch.sparse_coo):
            values = values.to_dense()  # other layouts can't take the further axis
        self._whole = BatchDrawing(values[None], recipe, layout_decision=_WHOLE)
        windows = False
        if layout_decision is not None and values.ndim and values.layout is torch.strided:
            values, windows = move_images_first(values, layout_decision)
        at_least_1d = values if values.ndim else values[None]
        self._images = BatchDrawing(at_least_1d, recipe, windows=windows, layout_decision=layout_decision)
        self.layout_decision = self._images.layout_decision

    def levels(self, _: int, /) -> Levels:
        """Return the codes and the limits of all images, channel by channel."""
        parts = [self._images.levels(position) for position in range(self._images.batch)]
        return Levels(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("codes", "low", "high")))

    def pictures(self, _: int, /) -> tuple[Picture, ...]:
        """Return the pictures of all images."""
        images = range(self._images.batch)
        return tuple(picture for position in images for picture in self._images.pictures(position))

    def facts(self, _: int, /) -> Facts:
        """Return facts about all values; the constant channels are the most that an image has."""
        images = [self._images.facts(position) for position in range(self._images.batch)]
        if not images:
            return self._whole.facts(0)
        constant = max(facts.constant_channels for facts in images)
        return replace(self._whole.facts(0), channels=images[0].channels, constant_channels=constant)

    def quantize_now(self, *, pixels: bool) -> int:
        """Compute all that the facts, and, if `pixels`, the pictures need, and release the values."""
        return self._whole.quantize_now(pixels=False) + self._images.quantize_now(pixels=pixels)
