"""What reads the inputs of a run, in the size, the range and the channels that the model takes."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from surgery.errors import ImageError, TraceError
from surgery.inputs.batching import input_dtype
from surgery.inputs.image_loading import load_image
from surgery.inputs.image_reader import ImageReader
from surgery.inputs.other_inputs import build_example, main_input_name, needs_example, reader_for_other_input
from surgery.stages import Preprocessing
from surgery.text import describe_stage
from surgery.tracing import trace

if TYPE_CHECKING:
    import torch

    from surgery.inputs.batching import Inputs
    from surgery.inputs.image_loading import Side, Size
    from surgery.stages import Limits, Reader


def input_channels(model: nn.Module) -> int:
    """How many channels a model takes: its `in_channels`, else those of its first convolution, else 3.

    The first convolution is usually the one that is registered first. Where that takes more channels than an image or a
    pair of images has, the model is traced, and the first one that runs is asked.
    """
    if isinstance(declared := getattr(model, "in_channels", None), int):
        return declared
    first = next((module for module in model.modules() if isinstance(module, _CONVOLUTIONS)), None)
    if first is not None and first.in_channels > _PAIR_WITH_ALPHA:
        first = _first_that_runs(model) or first
    return first.in_channels if first is not None else 3


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PAIR_WITH_ALPHA = 8


def _first_that_runs(model: nn.Module) -> nn.Conv1d | nn.Conv2d | nn.Conv3d | None:
    """The first convolution in order of execution; None where the model can't be traced."""
    try:
        traced = trace(model)
    except TraceError:
        return None
    called = (traced.get_submodule(str(node.target)) for node in traced.graph.nodes if node.op == "call_module")
    return next((module for module in called if isinstance(module, _CONVOLUTIONS)), None)


def default_range(reader: Reader) -> tuple[float, float]:
    """The values of black and white where no range is asked for."""
    low, high = (getattr(reader, end, None) for end in ("low", "high"))
    return -1.0 if low is None else low, 1.0 if high is None else high


def reader_for_model(
    reader: Reader,
    model: nn.Module,
    size: Size,
    side: Side,
    value_range: tuple[float, float],
    preprocessing: Preprocessing | None,
    *,
    has_other_inputs: bool,
) -> Reader:
    """What reads a path: the given reader, or that of images with what the model wants."""
    if not isinstance(reader, ImageReader):
        if size is not None or side != "none":
            raise ImageError(
                f"size and side are of the reader of images; set options of {describe_stage(reader)} instead"
            )
        return reader
    size = resolve_size(model, size, preprocessing)
    channels = reader.channels or input_channels(model)
    if has_other_inputs and channels not in (1, 3):  # a first convolution takes several inputs together
        own_reader = replace(reader, low=value_range[0], high=value_range[1])
        return reader_for_other_input(own_reader, size, side, value_range, preprocessing)
    depth: dict[str, Any] = {"black": reader.black, "white": reader.white, "indices": reader.indices}
    return partial(
        load_image, size=size, side=side, range=value_range, channels=channels, preprocessing=preprocessing, **depth
    )


def resolve_size(model: nn.Module, size: Size, preprocessing: Preprocessing | None) -> Size:
    """The size that images are read in: that which is asked for, or what the model says."""
    if size is not None or preprocessing is not None:
        return size
    declared = getattr(model, "size", None)
    return declared if isinstance(declared, (int, tuple)) else None


def read_example(subject: nn.Module, inputs: Inputs, device: str | torch.device) -> Any:
    """The first inputs, where some of them are in a graph only if an example gives them."""
    names = [other.name for other in inputs.others]
    if not needs_example(subject, names):
        return None
    for _, given in inputs.read():
        main, *others = (values.to(device, input_dtype(subject)) for values in given)
        return build_example(
            subject, {str(main_input_name(subject, names)): main, **dict(zip(names, others, strict=True))}
        )
    raise ImageError(inputs.failures[0].reason)


def input_limits(
    reader: Reader, side: Side, value_range: tuple[float, float], preprocessing: Preprocessing | None
) -> Limits | None:
    """What is drawn as black and as white where the input is an image."""
    if not isinstance(reader, ImageReader):
        return None
    if preprocessing is None:
        return value_range
    low, high = preprocessing.limits
    return (low, high) if side in ("none", "left", "right") else (low * 2, high * 2)


def model_preprocessing(model: nn.Module) -> Preprocessing | None:
    """What a model says it was trained to be given."""
    preprocessing = getattr(model, "preprocessing", None)
    return preprocessing if isinstance(preprocessing, Preprocessing) else None


def input_settings(
    reader: Reader, side: str, value_range: tuple[float, float], preprocessing: Preprocessing | None
) -> dict[str, Any]:
    """How the input was read, for the manifest."""
    if not isinstance(reader, ImageReader):
        return {"reader": describe_stage(reader), "range": list(value_range)}
    set_by_user = {} if reader == ImageReader() else {"reader": describe_stage(reader)}
    if preprocessing is not None:
        return {**set_by_user, "preprocessing": asdict(preprocessing), "range": None, "side": side}
    return {**set_by_user, "range": list(value_range), "side": side}
