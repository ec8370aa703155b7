"""Kinds of operations that expect their channels in a certain axis."""

from __future__ import annotations

import re

from torch import nn

from surgery.layouts.axes import BATCH, CHANNEL, DEPTH, HEIGHT, LENGTH, UNKNOWN, WIDTH

CHANNELS_FIRST_AXES = {4: (BATCH, CHANNEL, HEIGHT, WIDTH), 5: (BATCH, CHANNEL, DEPTH, HEIGHT, WIDTH)}
"""The axes of a convolution's values, by their number."""
SIGNAL_AXES = (BATCH, CHANNEL, LENGTH)
"""The axes of a 1-d convolution's values."""
CHANNELS_LAST_AXES = {
    3: (BATCH, UNKNOWN, CHANNEL),
    4: (BATCH, HEIGHT, WIDTH, CHANNEL),
    5: (BATCH, DEPTH, HEIGHT, WIDTH, CHANNEL),
}
"""The axes of the values of a layer norm or a linear layer, by their number."""

_LOCAL = (
    r"((lazy|quantized)?(conv|conv_?transpose|batchnorm|instancenorm|dropout|alphadropout|zeropad|lp_?pool)"
    r"|((adaptive|fractional)_?)?(max|avg|maxun)_?(un)?pool)"
)
_ON_SIGNALS = re.compile(rf"{_LOCAL}1d(_with_indices)?")
_CHANNELS_FIRST = re.compile(
    rf"{_LOCAL}[23]d(_with_indices)?"
    r"|(upsample|upsampling|interpolate|pixel_?(un)?shuffle|channel_?shuffle|local_?response_?norm|grid_?sample(r_2d)?)"
    r"|upsampling(nearest|bilinear)2d"
)
CHANNELS_FIRST_NORMS = frozenset(["groupnorm", "group_norm", "batch_norm", "syncbatchnorm", "instance_norm"])
"""Norms whose channels are axis 1. They keep the shape."""
CHANNELS_LAST_KINDS = frozenset(["linear", "layernorm", "layer_norm", "rmsnorm", "rms_norm", "embedding"])
"""Operations whose channels are the last axis."""
AXIS_PRESERVING_KINDS = frozenset(
    [
        *("add", "sub", "mul", "clone", "contiguous", "roll", "identity"),
        *("relu", "gelu", "silu", "leakyrelu", "leaky_relu", "hardswish", "sigmoid", "tanh", "softmax"),
        *("dropout", "stochastic_depth", "stochasticdepth", "droppath"),
    ]
)
"""Operations whose result has the axes of their argument: axes that a later operation requires are also the argument's.
"""


def is_channels_first(kind: str) -> bool:
    """Return whether an operation of this kind has its channels in axis 1 and works on the axes after it."""
    return _CHANNELS_FIRST.fullmatch(kind) is not None


def is_on_signals(kind: str) -> bool:
    """Return whether an operation of this kind has its channels in axis 1 and works on the one axis after it."""
    return _ON_SIGNALS.fullmatch(kind) is not None


def module_kind(module: nn.Module) -> str:
    """Return the name of a module's torch class in lower case.

    A subclass of a convolution or a pooling layer has the kind of its base. Every other class of the user has a kind of
    its own, since its forward may move axes (torchvision's LayerNorm2d does), even if torch has a class of that name.
    """
    bases = [base for base in type(module).__mro__ if base.__module__.startswith("torch.nn.")]
    own = type(module).__name__.lower()
    if not bases or bases[0] is nn.Module or own in CHANNELS_LAST_KINDS or is_channels_first(own):
        return own if bases and bases[0] is type(module) else f"{own} of its own"
    inherited = bases[0].__name__.lower()
    return inherited if bases[0] is type(module) or is_channels_first(inherited) else own
