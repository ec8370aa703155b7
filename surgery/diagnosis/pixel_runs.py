"""One run of a model, from which a pixel of the output is followed back to each value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from surgery.diagnosis.dependency_tape import DependencyTape
from surgery.diagnosis.pixel_fields import PixelField
from surgery.errors import ImageError, SelectionError, SurgeryError, TraceError, first_line
from surgery.extraction import (
    GradientRecorder,
    call_scalar,
    clone_for_gradients,
    following_gradients,
    forget_history,
)
from surgery.graph import call_arguments, contexts, named_tensors, tensor_specs
from surgery.layouts import MapView, find_map_views
from surgery.models import seeded_generators
from surgery.rewriting import insert, listening
from surgery.text import abbreviate_list
from surgery.types import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from surgery.extraction import Output
    from surgery.layouts import RequestedLayouts


class PixelRun(NamedTuple):
    """What a run found."""

    fields: tuple[PixelField, ...]
    """Those of the image and of each operation, in order of execution."""
    output: Tensor
    """The output of which the pixel is, ``(..., H, W)``, on the CPU."""
    notes: tuple[str, ...]
    """What is not exact, and what was left out, a line each."""


class _Value(NamedTuple):
    operation: Operation
    key: str
    shape: tuple[int, ...]
    gradient: Tensor | None
    reached: Tensor | None


def run_to_pixel(
    traced: nn.Module,
    chosen: Sequence[Operation],
    of: Output,
    inputs: Mapping[str, Any],
    image_name: str,
    layout: RequestedLayouts,
    seed: int,
) -> PixelRun:
    """Run a traced model on `inputs`, by name, and find the fields of a pixel of the output.

    Raises SelectionError if the output has no such pixel, ImageError if the model fails on the inputs, and TraceError
    if it has no gradients.
    """
    notes: list[str] = []
    left_out: list[str] = []
    is_reach_known = True
    values, tape, output = _run(traced, chosen, of, inputs, image_name, seed, left_out)
    try:
        reached = tape.walk_back(output, _elements_of(of, output))
    except TraceError as error:
        is_reach_known = False
        notes.append(f"not known which positions can reach the pixel: {error}")
    else:
        values = [value._replace(reached=found) for value, found in zip(values, reached.values, strict=True)]
        if reached.assumed:
            kernels = abbreviate_list(list(reached.assumed), 6)
            notes.append(f"all that these kernels read is taken to reach all that they write: {kernels}")
    image_size = tuple(inputs[image_name].shape[2:])
    (row, column), (height, width) = of.pixel or (0, 0), output.shape[-2:]
    center = (row + 0.5) * image_size[0] / height, (column + 0.5) * image_size[1] / width
    views = find_map_views(traced, chosen, layout)
    fields: list[PixelField] = []
    for value in values:
        view = views.get(value.operation.path, MapView())
        found = torch.zeros(value.shape, dtype=torch.bool) if value.reached is None else value.reached
        maps = view(found)
        path = value.operation.path + value.key
        if len(value.shape) < 2 or len(maps) != 1 or not maps.numel():
            left_out.append(path)
            continue
        gradient = None if value.gradient is None else view(value.gradient).abs().double().sum((0, 1)).cpu()
        reach = maps.flatten(0, 1).any(0) if is_reach_known else None
        size = (maps.shape[2], maps.shape[3])
        fields.append(PixelField(value.operation, path, reach, gradient, size, (image_size[0], image_size[1]), center))
    if left_out:
        notes.append(f"left out, since their values are no maps of one image: {abbreviate_list(left_out, 6)}")
    return PixelRun(tuple(fields), output.detach().cpu(), tuple(notes))


def _run(
    traced: nn.Module,
    chosen: Sequence[Operation],
    of: Output,
    inputs: Mapping[str, Any],
    image_name: str,
    seed: int,
    left_out: list[str],
) -> tuple[list[_Value], DependencyTape, Tensor]:
    """Return the values of a run with their gradients, its tape, and the output of which the pixel is.

    The paths of sparse and nested values are added to `left_out`.
    """
    opened = insert(traced, chosen)
    tape, recorder, values = DependencyTape(), GradientRecorder(), list[_Value]()

    def take(operation: Operation, value: Any) -> None:
        for key, tensor in named_tensors(value):
            if tensor.layout is not torch.strided or tensor.is_nested:
                left_out.append(operation.path + key)
                continue
            tape.mark(tensor)
            recorder.add(tensor)
            values.append(_Value(operation, key, tuple(tensor.shape), None, None))

    with seeded_generators(seed), following_gradients():
        copies = clone_for_gradients(dict(inputs))
        image = copies[image_name]
        args, kwargs = call_arguments(opened, copies)
        try:
            with tape, listening(opened, take), contexts.closing():
                take(Operation("input", "input", "input", 0, tensors=tensor_specs(image)), image)
                result = opened(*args, **kwargs)
            scalar = call_scalar(_checked(of, result), result)
            gradients = recorder.compute(scalar)
        except SurgeryError:
            raise
        except Exception as error:
            raise ImageError(f"the model fails on {tuple(image.shape)}: {first_line(error)}") from error
        finally:
            forget_history(opened)
    values = [value._replace(gradient=found) for value, found in zip(values, gradients, strict=True)]
    return values, tape, of.find_tensor(result)


def _checked(of: Output, result: Any) -> Output:
    """Return the pixel. Raises SelectionError for an output without height and width."""
    output = of.find_tensor(result)
    if output.ndim < 3:
        raise SelectionError(f"the output {tuple(output.shape)} has no height and width, so it has no pixels")
    return of


def _elements_of(of: Output, output: Tensor) -> Tensor:
    """Return which elements of the output the pixel is."""
    elements = torch.zeros(output.shape, dtype=torch.bool)
    row, column = of.pixel or (0, 0)
    if of.channel is None:
        elements[..., row, column] = True
    else:
        elements.select(1, int(of.channel))[..., row, column] = True
    return elements
