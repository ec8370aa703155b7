"""From activations to pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from surgery.drawing.batch_drawing import BatchDrawing
from surgery.drawing.color_images import ColorImageDrawing
from surgery.drawing.maps import split_by_image
from surgery.drawing.whole_batch_drawing import WholeBatchDrawing
from surgery.graph import named_tensors
from surgery.layouts import NO_HINTS, LayoutHints, decide_layout
from surgery.stages import Recipe
from surgery.types import Activation, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from surgery.stages import Limits


def make_activations(
    operation: Operation,
    value: Any,
    images: Sequence[str] | None,
    recipe: Recipe,
    key: str = "",
    known: Callable[[str], LayoutHints] = lambda _: NO_HINTS,
) -> Iterator[Activation]:
    """Activations of what an operation computed for a batch of `images`; of the batch as one where that is None.

    `known` tells, by its place in the value, what is known of a tensor's axes.
    """
    asked = recipe.layout_for(operation.path)
    for where, tensor in named_tensors(value, key):
        path = operation.path + where
        hints = replace(known(where), requested=asked) if asked is not None else known(where)
        layout_decision = decide_layout(tuple(tensor.shape), None if images is None else len(images), hints)
        if images is None:
            yield Activation(operation, path, None, tensor, WholeBatchDrawing(tensor, recipe, layout_decision))
            continue
        lying = tensor.movedim(layout_decision.batch_axis, 0) if layout_decision.batch_axis else tensor
        parts = split_by_image(lying, len(images))
        if parts is None:
            yield Activation(operation, path, None, tensor, BatchDrawing(tensor[None], recipe))
            continue
        drawing = BatchDrawing(parts, recipe, windows=parts.ndim > tensor.ndim, layout_decision=layout_decision)
        for position, image in enumerate(images):
            yield Activation(operation, path, image, parts[position], drawing, position)


def make_image_activations(
    operation: Operation,
    values: Tensor,
    images: Sequence[str],
    limits: Limits,
    recipe: Recipe,
) -> Iterator[Activation]:
    """Activations that are color by nature: ``(B, 3, H, W)`` or ``(B, 1, H, W)`` within `limits`, drawn as RGB."""
    drawing = ColorImageDrawing(values, limits, recipe)
    for position, image in enumerate(images):
        yield Activation(operation, operation.path, image, values[position], drawing, position)


def strip_values(activation: Activation) -> Activation:
    """An activation whose values have their shape and dtype, and nothing in them."""
    empty = _empty(activation.values.shape, activation.values.dtype)
    return Activation(
        activation.operation, activation.path, activation.image, empty, activation.drawing, activation.position
    )


@lru_cache(maxsize=256)
def _empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
