"""`maximize`: images that excite channels of an operation as much as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.eager import bind_example
from surgery.editing import parse_channels
from surgery.errors import ImageError, ModelError, SelectionError
from surgery.graph import find_edges, input_names
from surgery.inputs import (
    explain_size_mismatch,
    input_channels,
    input_dtype,
    model_preprocessing,
    model_size,
    parse_size,
)
from surgery.output import Progress
from surgery.rewriting import select
from surgery.synthesis.ascent import Ascended, Ascent
from surgery.synthesis.results import Maximized
from surgery.synthesis.settings import AscentSettings
from surgery.synthesis.unit_values import UnitValues
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from surgery.builtin import ChannelNumbers
    from surgery.inputs import Size
    from surgery.layouts import RequestedLayouts
    from surgery.rewriting import Selection
    from surgery.stages import Limits
    from surgery.types import Operation

DEFAULT_SIDE = 224
"""Height and width of an image for a model that does not say which size it takes."""


def maximize(
    traced: nn.Module,
    selection: Selection | str,
    channel: int | ChannelNumbers = None,
    *,
    top: int | None = None,
    image: Any = None,
    size: Size = None,
    limits: Limits | None = None,
    region: tuple[float, float, float, float] | None = None,
    layout: RequestedLayouts = None,
    steps: int = 128,
    rate: float = 0.05,
    jitter: int = 8,
    variation: float = 1.0,
    frequencies: bool = True,
    seed: int = 0,
    batch_size: int = 4,
    progress: Callable[[Progress], None] | None = None,
) -> Maximized:
    """Return an image for each of some channels of an operation, which excites the channel as much as possible.

    Gradient ascent changes an image, from nearly gray noise on, so that the mean of the channel over its map rises
    (Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017). The same seed gives the same images. The
    model runs up to the operation only; it stays as it is, and its parameters get no gradients.

    - `traced`: A traced model. It runs in its mode: call `eval` for one that was not put into eval mode.
    - `selection`: A selection of one operation.
    - `channel`: One channel or several: a number, ``range(16)``, ``"0-15,20"``.
    - `top`: In place of `channel`: the channels with the greatest means on `image`, so many of them.
    - `image`: An image ``(1, C, H, W)`` as the model takes it, whose size the new images have; or all inputs of the
      model as an example of `surgery.trace`, of which the first is the image and the others are held.
    - `size`: The size of the new images: a side, or (height, width). By default that of `image`, of the example
      that the model was traced with, or the model's own.
    - `limits`: The values of black and of white, a number each or one for each channel. By default -1 and 1, or those
      of an observed model's attribute `preprocessing`. A graph does not have it: give ``model.preprocessing.limits``.
    - `region`: The part of the map whose mean counts: top, left, height and width in shares of it. By default all.
    - `layout`: How values are read as maps, as in `surgery.edit`.
    - `steps`, `rate`: How many steps, and how large (of Adam).
    - `jitter`: Each step moves the image by up to so many pixels, so that no detail is made for one place.
    - `variation`: The weight of the image's total variation, which keeps it smooth; the mean is counted in standard
      deviations of the operation's values on the first image.
    - `frequencies`: Whether steps change the frequencies of the image; otherwise its pixels, which gives noise.
    - `batch_size`: How many images run at once, if the entries of a batch don't depend on each other; otherwise one.
    - `progress`: Called after each step. It counts steps.

    Raises SelectionError for a selection of several operations and for an operation without channels, EditError for a
    channel that there isn't, ImageError for an image that the model does not take, and ModelError for a setting out of
    its range.
    """
    settings = AscentSettings(steps, rate, jitter, variation, frequencies, seed, region)
    if batch_size < 1:
        raise ModelError(f"a batch has at least 1 image, not {batch_size}")
    operation = _find_operation(traced, selection)
    image_name, given, others = _split_inputs(traced, image)
    limits = _find_limits(traced) if limits is None else limits
    with torch.inference_mode(mode=False), torch.enable_grad():
        values = UnitValues(traced, operation, image_name, others, region, layout)
        shape = _find_shape(traced, given, size)
        like = given if given is not None else _empty_input(traced)
        channels = _find_channels(values, channel, top, given, shape, like)
        ascent = Ascent(values, shape, limits, settings, like)
        size_of_batch = ascent.find_batch_size(channels, batch_size)
        groups = [channels[start : start + size_of_batch] for start in range(0, len(channels), size_of_batch)]
        parts = []
        for number, group in enumerate(groups):

            def on_step(step: int, number: int = number, group: tuple[int, ...] = group) -> None:
                if progress is not None:
                    done = number * steps + step
                    progress(Progress(done, 0, len(groups) * steps, f"channel {abbreviate_list(group, 4)}"))

            parts.append(ascent.run(group, on_step))
    found = Ascended(*(torch.cat(each) for each in zip(*parts, strict=True)))
    return Maximized(
        model=traced,
        operation=operation,
        channels=channels,
        images=found.images,
        before=tuple(found.before.tolist()),
        after=tuple(found.after.tolist()),
        limits=limits,
        settings=settings,
    )


def _find_operation(traced: nn.Module, selection: Selection | str) -> Operation:
    chosen = select(traced, selection)
    if len(chosen) > 1:
        paths = abbreviate_list([operation.path for operation in chosen], 4)
        raise SelectionError(f"one operation is maximized, and {len(chosen)} match: {paths}; select one of them")
    return chosen[0]


def _split_inputs(traced: nn.Module, image: Any) -> tuple[str, Tensor | None, Mapping[str, Any]]:
    """Return the name of the image's input, the image if it is given, and the other inputs by name."""
    names = input_names(traced)
    if not names:
        raise ModelError(f"{type(traced).__name__} takes no inputs")
    if image is None:
        if len(names) > 1:
            raise ModelError(
                f"{type(traced).__name__} takes {abbreviate_list(list(names), 6)}; give all of them: image=(image, ...)"
            )
        return names[0], None, {}
    values = dict(bind_example(traced, image).example or {})
    missing = [name for name in names if name not in values]
    first = next(iter(values), names[0])
    given = values.pop(first, None)
    if missing or not isinstance(given, Tensor) or given.ndim != 4 or not given.is_floating_point():
        what = f"has no {missing[0]}" if missing else f"is {_describe(given)}"
        raise ImageError(
            f"an image is a tensor of floats (1, C, H, W), with the other inputs if there are any; it {what}"
        )
    return first, given[:1].detach(), values


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _find_limits(traced: nn.Module) -> Limits:
    preprocessing = model_preprocessing(traced)
    return preprocessing.limits if preprocessing is not None else (-1.0, 1.0)


def _find_shape(traced: nn.Module, image: Tensor | None, size: Size) -> tuple[int, int, int]:
    """Return the shape ``(C, H, W)`` of the new images. Raises ImageError for a size that makes no sense."""
    channels = input_channels(traced) if image is None else image.shape[1]
    example = _example_shape(traced) if image is None else tuple(image.shape)
    found = parse_size(size)
    if found is None and example is not None and len(example) == 4:
        found = example[2], example[3]
    height, width = found or parse_size(model_size(traced) or DEFAULT_SIDE) or (DEFAULT_SIDE, DEFAULT_SIDE)
    if problem := explain_size_mismatch(traced, torch.empty(1, channels, height, width, device="meta")):
        raise ImageError(problem)
    return channels, height, width


def _example_shape(traced: nn.Module) -> tuple[int, ...] | None:
    """Return the shape of the first input in the example that the model was traced with; None if it is not known."""
    tensors = next((source.tensors for source in find_edges(traced).inputs), None)
    return tensors[0].shape if tensors else None


def _empty_input(traced: nn.Module) -> Tensor:
    """Return an empty tensor of the dtype and device of the model's weights."""
    parameter = next(traced.parameters(), None)
    return torch.empty(0, dtype=input_dtype(traced), device=None if parameter is None else parameter.device)


def _find_channels(
    values: UnitValues,
    channel: int | ChannelNumbers,
    top: int | None,
    image: Tensor | None,
    shape: tuple[int, int, int],
    like: Tensor,
) -> tuple[int, ...]:
    """Return the channels to maximize. Raises SelectionError if the operation does not have them."""
    if (channel is None) == (top is None):
        raise SelectionError(
            "either a channel or a number of top channels is chosen: channel=5, or top=16 and an image"
        )
    if top is not None and image is None:
        raise SelectionError("the top channels are those of an image; give one: image=")
    with torch.no_grad():
        sample = image if image is not None else like.new_zeros(1, *shape)
        means = values(sample)[0]
    path, count = values.operation.path, len(means)
    if top is not None:
        if not 1 <= top <= count:
            raise SelectionError(f"{path} has {count} channels, not {top}")
        return tuple(means.argsort(descending=True, stable=True)[:top].tolist())
    return tuple(parse_channels((channel,) if isinstance(channel, int) else channel, count, path))
