"""What operations do to the axes of values: which of them move axes, merge them, or say what they stand for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.layouts.axes import (
    BATCH,
    CHANNEL,
    DEPTH,
    HEIGHT,
    UNKNOWN,
    WIDTH,
    Axes,
    named_axes,
    resize_axes,
    resize_axis,
    simple_axis,
    unknown_axes,
)
from surgery.layouts.axis_moves import MOVES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.layouts.axes import Axis, Call, Operand

CHANNELS_FIRST_AXES = {4: (BATCH, CHANNEL, HEIGHT, WIDTH), 5: (BATCH, CHANNEL, DEPTH, HEIGHT, WIDTH)}
"""The axes that convolutions and poolings work on, by their number."""

CHANNELS_FIRST_KINDS = re.compile(
    r"((lazy|quantized)?(conv|conv_?transpose|batchnorm|instancenorm|dropout|alphadropout|zeropad|lp_?pool)"
    r"|((adaptive|fractional)_?)?(max|avg|maxun)_?(un)?pool)[23]d(_with_indices)?"
    r"|(upsample|upsampling|interpolate|pixel_?(un)?shuffle|channel_?shuffle|local_?response_?norm|grid_?sample(r_2d)?)"
    r"|upsampling(nearest|bilinear)2d"
)
"""What takes its channels from axis 1, and works on the axes behind it."""
CHANNELS_FIRST_NORMS = frozenset(["groupnorm", "group_norm", "batch_norm", "syncbatchnorm", "instance_norm"])
"""What takes its channels from axis 1 and changes no shape."""
CHANNELS_LAST_KINDS = frozenset(["linear", "layernorm", "layer_norm", "rmsnorm", "rms_norm", "embedding"])
"""What takes its channels from the last axis."""


def infer_axes(call: Call) -> Axes:
    """The axes of one tensor that an operation gave."""
    shape = call.shape
    made = _apply_rule(call)
    if made is not None and made.shape == tuple(shape):
        return made
    return unknown_axes(shape)


def is_channels_first(kind: str) -> bool:
    """Whether an operation of this kind takes its channels from axis 1, and works on the axes behind it."""
    return CHANNELS_FIRST_KINDS.fullmatch(kind) is not None


def _apply_rule(call: Call) -> Axes | None:
    operands = call.operands
    first = operands[0] if operands else None
    if is_channels_first(call.kind):
        return _channels_first(call, first)
    if call.kind in CHANNELS_LAST_KINDS:
        return _channels_last(call, first)
    if first is None or call.kind not in MOVES:
        return _keep_axes(call, operands)
    try:
        return MOVES[call.kind](call, first)
    except (TypeError, ValueError, IndexError, AttributeError, KeyError, RuntimeError):
        return None  # arguments that are not those of torch: another function of that name


def _keep_axes(call: Call, operands: Sequence[Operand]) -> Axes | None:
    """Of what moves no axis, as far as is known: the axes of the first operand that has the same shape."""
    shape = call.shape
    same = [each.axes for each in operands if each.shape == shape]
    best = next((axes for axes in same if axes.is_known), same[0] if same else None)
    if call.kind in CHANNELS_FIRST_NORMS and (best is None or not best.is_known) and len(shape) in CHANNELS_FIRST_AXES:
        return named_axes(shape, CHANNELS_FIRST_AXES[len(shape)], call.label)
    return best


def _channels_first(call: Call, first: Operand | None) -> Axes:
    """Channels first. Of windows, which lie along the batch, it stays known where they are from."""
    shape = call.shape
    if len(shape) not in CHANNELS_FIRST_AXES:
        same = first is not None and len(first.shape) == len(shape)
        return resize_axes(first.axes, shape) if same and first is not None else unknown_axes(shape)
    made = named_axes(shape, CHANNELS_FIRST_AXES[len(shape)], call.label)
    if first is None or len(first.axes.items) != len(shape) or not first.axes.is_known:
        return made
    before = first.axes.items
    if before[0].names - {BATCH} and before[0].size == shape[0]:
        spatial = [
            resize_axis(old, size) if old.names == {name} or old.size == 1 else simple_axis(name, size)
            for old, size, name in zip(before[2:], shape[2:], CHANNELS_FIRST_AXES[len(shape)][2:], strict=True)
        ]
        return replace(made, items=(before[0], made.items[1], *spatial))
    return made


def _channels_last(call: Call, first: Operand | None) -> Axes:
    """Channels in the last axis. Of one that mixes places (as an MLP mixer does) nothing is known behind it."""
    shape = call.shape
    if len(shape) < 2:
        return unknown_axes(shape)
    axes = first.axes if first is not None and len(first.shape) == len(shape) else unknown_axes(shape)
    if "norm" in call.kind:
        sizes = call.option(1, "normalized_shape")
        if isinstance(sizes, (tuple, list)) and len(sizes) > 1:
            return axes
    last = axes.items[-1]
    changed = last.names & {HEIGHT, WIDTH, DEPTH} and CHANNEL not in last.names
    if changed and "norm" in call.kind:
        return axes
    items = [*axes.items[:-1], simple_axis(UNKNOWN if changed else CHANNEL, shape[-1])]
    if not axes.is_known:
        rest = {2: (BATCH,), 4: (BATCH, HEIGHT, WIDTH), 5: (BATCH, DEPTH, HEIGHT, WIDTH)}.get(len(shape))
        if rest is not None and all(UNKNOWN in axis.names or axis.size == 1 for axis in axes.items[:-1]):
            items = [*(simple_axis(name, size) for name, size in zip(rest, shape[:-1], strict=True)), items[-1]]
            return Axes(tuple(items), call.label)
        return (
            Axes((simple_axis(BATCH, shape[0]), *items[1:]), call.label)
            if _has_no_names(items[0])
            else Axes(tuple(items))
        )
    return replace(axes, items=tuple(items), origin=axes.origin or call.label)


def _has_no_names(axis: Axis) -> bool:
    return all(factor.name == UNKNOWN for factor in axis.factors)
