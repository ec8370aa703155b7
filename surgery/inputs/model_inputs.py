"""What a model requires of its images: channels, dtype, size and preprocessing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from surgery.errors import TraceError
from surgery.graph import operations
from surgery.stages import Preprocessing
from surgery.tracing import trace

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


def normalizes_image_lists(model: nn.Module) -> bool:
    """Return whether a model takes a list of images from 0 to 1, as torchvision's detectors do."""
    return hasattr(getattr(model, "transform", None), "image_mean")


def model_size(model: nn.Module) -> int | tuple[int, int] | None:
    """Return the input size that a model declares; None if it declares none.

    It is its attribute `size`, or `image_size` or `sample_size` of its configuration, as in transformers and diffusers.
    """
    config = getattr(model, "config", None)
    configs = (config, getattr(config, "vision_config", None))
    declared = [getattr(each, name, None) for each in configs for name in ("image_size", "sample_size")]
    for size in (getattr(model, "size", None), *declared):
        if isinstance(size, (list, tuple)) and len(size) == 2 and all(isinstance(side, int) for side in size):
            return size[0], size[1]
        if isinstance(size, int):
            return size
    return None


def explain_size_mismatch(model: nn.Module, values: object) -> str | None:
    """Return why a model can't take images ``(B, C, H, W)``, by its attribute `multiple`; None if it can."""
    multiple = getattr(model, "multiple", 1)
    if not isinstance(multiple, int) or not isinstance(values, Tensor) or values.ndim != 4:
        return None
    height, width = values.shape[2:]
    if height % multiple == 0 and width % multiple == 0:
        return None
    near = max(multiple, round(max(height, width) / multiple) * multiple)
    return (
        f"{type(model).__name__} takes heights and widths that are multiples of {multiple}, not {height}x{width}; "
        f"size {near} would do"
    )
