"""`trace_back`: the positions of each value that a pixel of the output depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.diagnosis.pixel_runs import run_to_pixel
from surgery.diagnosis.pixel_traces import PixelTrace
from surgery.eager import bind_example
from surgery.errors import ImageError, SelectionError, TraceError
from surgery.extraction import Output
from surgery.graph import input_names
from surgery.inputs import model_preprocessing, to_model
from surgery.models import check_seed
from surgery.rewriting import ALL_OPERATIONS, select_all
from surgery.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from surgery.layouts import RequestedLayouts
    from surgery.rewriting import Selection
    from surgery.stages import Limits


def trace_back(
    model: nn.Module,
    image: Any,
    pixel: tuple[int, int],
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    channel: int | None = None,
    tensor: str = "",
    layout: RequestedLayouts = None,
    limits: Limits | None = None,
    seed: int = 0,
) -> PixelTrace:
    """Find which positions of the image and of each operation can reach a pixel of the output, and which do.

    Which can, the theoretical receptive field, follows from what each kernel of torch reads for what it writes, in the
    run on this image, whatever the weights are. Which do, the effective one, is the gradient of the pixel (Luo et al.,
    "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016).

    - `model`: A model, or a traced one. It runs in its mode, and stays as it is.
    - `image`: An image ``(1, C, H, W)`` as the model takes it, or all inputs of the model as an example of
      `surgery.trace`, of which the first with this shape is the image.
    - `pixel`: Row and column of the output, which may be the map of a discriminator's scores.
    - `at`: Which operations: one selection or several. The image always comes first.
    - `channel`: The channel of the pixel. By default all channels can be reached, and their mean has the gradient.
    - `tensor`: The key of the tensor in the output, if it holds several: ``[0]``.
    - `layout`: How values are read as maps, as in `surgery.edit`.
    - `limits`: The values of black and white of the image in pictures: by default -1 and 1, or those of the model's
      attribute `preprocessing`.
    - `seed`: The seed of a model that draws random numbers.

    What Python computes from numbers that it reads from tensors is not followed, and all that a kernel of an unknown
    kind reads is taken to reach all that it writes, with a note. Raises SelectionError for a pixel or channel that the
    output does not have, for an output without height and width and for a selection that matches nothing, ImageError
    for anything but one image, and TraceError for a model that has no gradients.
    """
    check_seed(seed)
    of = Output(channel=channel, pixel=_check_pixel(pixel), tensor=tensor)
    traced = _as_traced(model, image)
    inputs, image_name = _find_image(traced, image)
    selections: Sequence[Selection | str] = at if isinstance(at, (list, tuple)) else [at]  # type: ignore[list-item]
    chosen = [operation for operation in select_all(traced, selections) if operation.tensors != ()]
    if limits is None:
        preprocessing = model_preprocessing(model)
        limits = preprocessing.limits if preprocessing is not None else (-1.0, 1.0)
    run = run_to_pixel(traced, chosen, of, inputs, image_name, layout, seed)
    return PixelTrace(
        model=traced,
        pixel=of.pixel or pixel,
        channel=channel,
        tensor=tensor,
        fields=run.fields,
        image=inputs[image_name][0].detach().cpu(),
        output=run.output,
        limits=limits,
        notes=run.notes,
    )


def _check_pixel(pixel: Any) -> tuple[int, int]:
    """Return a pixel as a tuple. Raises SelectionError for anything but two whole numbers."""
    given = tuple(pixel) if isinstance(pixel, (tuple, list)) else ()
    if len(given) != 2 or not all(isinstance(number, int) for number in given):
        raise SelectionError(f"a pixel is two whole numbers, its row and its column, not {pixel!r:.60}")
    return given[0], given[1]


def _as_traced(model: nn.Module, image: Any) -> nn.Module:
    try:
        input_names(model)
    except TraceError:
        return trace(model, image)
    return model


def _find_image(traced: nn.Module, image: Any) -> tuple[dict[str, Any], str]:
    """Return the inputs of a model by name, on its device, and the name of the image."""
    parameter = next(traced.parameters(), None)
    device = "cpu" if parameter is None else parameter.device
    inputs = {
        name: to_model(value, device, None) for name, value in (bind_example(traced, image).example or {}).items()
    }
    shapes = [tuple(value.shape) for value in inputs.values() if isinstance(value, Tensor)]
    for name, value in inputs.items():
        if isinstance(value, Tensor) and value.ndim == 4 and torch.is_floating_point(value):
            if len(value) != 1:
                raise ImageError(f"a pixel is traced back to one image, not to {len(value)}; give image[:1]")
            return inputs, name
    found = f"tensors {', '.join(map(str, shapes))}" if shapes else type(image).__name__
    raise ImageError(f"an image is a tensor of floats (1, C, H, W), not {found}")
