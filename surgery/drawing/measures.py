"""The use of measures: maps to a number for each channel, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.drawing.transforms import describe_type
from surgery.errors import MeasureError
from surgery.plugins import describe_error
from surgery.text import describe_stage

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.stages import Measure, MeasuredOperation


def fit_measure(name: str, measure: Measure, measured: MeasuredOperation) -> Measure | None:
    """Return the measure for an operation, or None if it can say nothing about it.

    Raises MeasureError if its `of_operation` raises, or returns something that can't be called.
    """
    of_operation = getattr(measure, "of_operation", None)
    if of_operation is None:
        return measure
    try:
        fitted: Measure | None = of_operation(measured)
    except MeasureError:
        raise
    except Exception as error:
        message = f"measure {name} can't be fitted to {measured.operation.path}: {describe_error(error)}"
        raise MeasureError(message) from error
    if fitted is not None and not callable(fitted):
        raise MeasureError(f"measure {name} returned {describe_type(fitted)} for an operation, not a measure or None")
    return fitted


def apply_measure(measure: Measure, maps: Tensor, name: str | None = None) -> Tensor:
    """Return the numbers ``(B, C)`` or ``(B, 1)``, float64 on the CPU, that a measure gives of maps ``(B, C, H, W)``.

    `name` is what messages call it. Raises MeasureError if it raises, writes to its input, or returns another shape or
    something other than floats.
    """
    name = name or describe_stage(measure)
    # Autograd counts the writes to a tensor, except to inference tensors.
    version = None if maps.is_inference() else maps._version  # noqa: SLF001
    try:
        numbers = measure(maps)
    except MeasureError:
        raise
    except Exception as error:
        raise MeasureError(f"measure {name} can't take {tuple(maps.shape)}: {describe_error(error)}") from error
    if version is not None and maps._version != version:  # noqa: SLF001
        raise MeasureError(f"measure {name} writes to its input, which is memory of the model; write to a copy")
    if not isinstance(numbers, torch.Tensor) or not numbers.is_floating_point():
        raise MeasureError(f"measure {name} has to return (B, C) float64, not {describe_type(numbers)}")
    images, channels = maps.shape[:2]
    if tuple(numbers.shape) not in ((images, channels), (images, 1)):
        raise MeasureError(
            f"measure {name} has to return ({images}, {channels}) or ({images}, 1), not {tuple(numbers.shape)}"
        )
    return numbers.detach().to("cpu", torch.float64)
