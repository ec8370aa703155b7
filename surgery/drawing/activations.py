"""Activations: the values of an operation, with the drawing that makes their pictures."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from surgery.drawing.batch_drawing import BatchDrawing
from surgery.drawing.color_images import ColorImageDrawing
from surgery.drawing.live_maps import LiveMaps
from surgery.drawing.maps import split_by_image
from surgery.drawing.whole_batch_drawing import WholeBatchDrawing, move_images_first
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
    find_hints: Callable[[str], LayoutHints] = lambda _: NO_HINTS,
) -> Iterator[Activation]:
    """Yield an activation for each tensor in an operation's value and each of the images.

    `value` is a tensor or a container of tensors; if it is a part of the operation's value, `key` is its place there.
    `images` are names, in the order of the batch. If they are None, or if a tensor can't be split by image, there is a
    single activation of the whole batch. `find_hints` takes the key of a tensor and returns what is known about it.
    """
    requested = recipe.layout_for(operation.path)
    batch = None if images is None else len(images)
    for tensor_key, tensor in named_tensors(value, key):
        path = operation.path + tensor_key
        tensor = tensor.detach() if tensor.requires_grad else tensor  # noqa: PLW2901
        hints = find_hints(tensor_key)
        hints = hints if requested is None else replace(hints, requested=requested)
        layout_decision = decide_layout(tuple(tensor.shape), batch, hints)
        if images is None:
            yield Activation(operation, path, None, tensor, WholeBatchDrawing(tensor, recipe, layout_decision))
            continue
        batch_first = tensor.movedim(layout_decision.batch_axis, 0) if layout_decision.batch_axis else tensor
        parts = split_by_image(batch_first, len(images))
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
    """Yield an activation for each image of ``(B, 3, H, W)`` or ``(B, 1, H, W)`` values, drawn in its own colors.

    `limits` are the values of black and of white.
    """
    values = values.detach()
    drawing = ColorImageDrawing(values, limits, recipe)
    for position, image in enumerate(images):
        yield Activation(operation, operation.path, image, values[position], drawing, position)


def read_maps(activation: Activation) -> Tensor:
    """Return the values of an activation as maps ``(B, C, H, W)``, float32 or float64, read by its layout.

    B is 1 for the activation of a single image. Windows become channels.
    """
    values, windows = activation.values[None], False
    if activation.image is None and activation.values.ndim:
        values, windows = move_images_first(activation.values, activation.layout)
    return LiveMaps(values, activation.layout, windows=windows).raw


def strip_values(activation: Activation) -> Activation:
    """Return the activation with a meta tensor in place of its values, which frees their memory."""
    empty = _empty(activation.values.shape, activation.values.dtype)
    return replace(activation, values=empty, gradient=None)


@lru_cache(maxsize=256)
def _empty(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")
