"""What a model requires of its inputs: their names and order, channels, dtype, size and preprocessing."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import torch
from torch import nn

from surgery.errors import TraceError
from surgery.graph import operations
from surgery.stages import Preprocessing
from surgery.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PAIR_WITH_ALPHA = 8
"""The most channels that an image, or a pair of images, can have."""


def input_channels(model: nn.Module) -> int:
    """Return how many channels a model takes: its `in_channels`, else those of its first convolution, else 3.

    The convolution that is registered first is usually the one that runs first. If it takes more channels than a pair
    of images has, the model is traced to find the convolution that does run first.
    """
    if isinstance(declared := getattr(model, "in_channels", None), int):
        return declared
    first = next((module for module in model.modules() if isinstance(module, _CONVOLUTIONS)), None)
    if first is not None and first.in_channels > _PAIR_WITH_ALPHA:
        first = _first_convolution_executed(model) or first
    return first.in_channels if first is not None else 3


def _first_convolution_executed(model: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """Return the convolution that runs first; None if the model can't be traced."""
    try:
        traced = trace(model)
    except TraceError:
        return None
    modules = dict(traced.named_modules())
    called = (modules.get(operation.path) for operation in operations(traced))
    return next((module for module in called if isinstance(module, _CONVOLUTIONS)), None)


def input_dtype(model: nn.Module) -> torch.dtype | None:
    """Return the dtype of a model's weights, which its input must have; None for a model without float parameters."""
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return next((parameter.dtype for parameter in model.parameters() if parameter.dtype in floats), None)


def model_preprocessing(model: nn.Module) -> Preprocessing | None:
    """Return the preprocessing that a model carries in its attribute `preprocessing`; None if it has none."""
    preprocessing = getattr(model, "preprocessing", None)
    return preprocessing if isinstance(preprocessing, Preprocessing) else None


def model_size(model: nn.Module) -> int | tuple[int, int] | None:
    """Return the input size that a model declares in its attribute `size`; None if it has none."""
    size = getattr(model, "size", None)
    return size if isinstance(size, (int, tuple)) else None


def explain_size_mismatch(model: nn.Module, values: Tensor) -> str | None:
    """Return why a model can't take an image ``(B, C, H, W)``, by its attribute `multiple`; None if it can."""
    multiple = getattr(model, "multiple", 1)
    height, width = values.shape[2:]
    if not isinstance(multiple, int) or (height % multiple == 0 and width % multiple == 0):
        return None
    near = max(multiple, round(max(height, width) / multiple) * multiple)
    return (
        f"{type(model).__name__} takes heights and widths that are multiples of {multiple}, not {height}x{width}; "
        f"size {near} would do"
    )


def main_input_name(model: nn.Module, others: Sequence[str]) -> str | None:
    """Return the parameter of ``forward`` that receives the image: the first that is not in `others`, if any."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = (p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return next((name for name in named if name not in others), None)


def needs_example(model: nn.Module, others: Sequence[str]) -> bool:
    """Return whether one of the inputs `others` becomes part of a graph only if an example provides it."""
    parameters = [inspect.signature(model.forward).parameters[name] for name in others]
    return any(p.default is not p.empty or p.kind is p.KEYWORD_ONLY for p in parameters)


def build_example(model: nn.Module, named: Mapping[str, Tensor]) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Return inputs by name as an example to trace with: a tuple if they can be passed by position, else a dict."""
    parameters = list(inspect.signature(model.forward).parameters.values())[: len(named)]
    if all(p.name in named and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
        return tuple(named[p.name] for p in parameters)
    return dict(named)
