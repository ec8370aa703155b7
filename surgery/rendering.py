"""From activations to pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.builtin.normalizers import MinMax
from surgery.builtin.tilers import Grid
from surgery.drawing import BatchDrawing, ImageDrawing, WholeDrawing
from surgery.quantising import share_out
from surgery.types import Activation, Operation, Picture, Recipe
from surgery.values import tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from surgery.types import Colormap, Limits, Normalizer, Tiler, Transform

STANDARD = Recipe(MinMax(), Grid())


def draw(
    values: Tensor,
    *,
    normalizer: Normalizer = STANDARD.normalizer,
    tiler: Tiler = STANDARD.tiler,
    colormap: Colormap = None,
    transforms: Sequence[Transform] = (),
) -> tuple[Picture, ...]:
    """Pictures of a tensor whose first axis is the batch: one for each image, or as many as the tiler makes of one.

    Raises RenderError where a stage gives something that can't be drawn.
    """
    recipe = Recipe(normalizer, tiler, colormap, transforms=tuple(transforms))
    drawing = BatchDrawing(values if values.ndim else values[None], recipe)
    return tuple(picture for position in range(drawing.batch) for picture in drawing.pictures(position))


def activations_of(
    operation: Operation,
    value: Any,
    images: Sequence[str] | None,
    recipe: Recipe,
    key: str = "",
) -> Iterator[Activation]:
    """Activations of what an operation computed for a batch of `images`; of the batch as one where that is None."""
    for where, tensor in tensors_in(value, key):
        path = operation.path + where
        if images is None:
            yield Activation(operation, path, None, tensor, WholeDrawing(tensor, recipe))
            continue
        parts = share_out(tensor, len(images))
        if parts is None:
            yield Activation(operation, path, None, tensor, BatchDrawing(tensor[None], recipe))
            continue
        drawing = BatchDrawing(parts, recipe, windows=parts.ndim > tensor.ndim)
        for position, image in enumerate(images):
            yield Activation(operation, path, image, parts[position], drawing, position)


def image_activations(
    operation: Operation,
    values: Tensor,
    images: Sequence[str],
    limits: Limits,
    recipe: Recipe,
) -> Iterator[Activation]:
    """Activations that are color by nature: ``(B, 3, H, W)`` or ``(B, 1, H, W)`` within `limits`, drawn as RGB."""
    drawing = ImageDrawing(values, limits, recipe)
    for position, image in enumerate(images):
        yield Activation(operation, operation.path, image, values[position], drawing, position)
