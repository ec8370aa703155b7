"""The axes of an operation's result, inferred from its kind and the axes of its arguments."""

from __future__ import annotations

from dataclasses import replace

from surgery.layouts.axes import (
    BATCH,
    CHANNEL,
    DEPTH,
    HEIGHT,
    LENGTH,
    SPATIAL,
    UNKNOWN,
    WIDTH,
    Axes,
    Axis,
    named_axes,
    resize_axes,
    resize_axis,
    simple_axis,
    unknown_axes,
)
from surgery.layouts.axis_moves import MOVES
from surgery.layouts.operation_calls import Call, Operand
from surgery.layouts.operation_kinds import (
    CHANNELS_FIRST_AXES,
    CHANNELS_FIRST_NORMS,
    CHANNELS_LAST_KINDS,
    SIGNAL_AXES,
    is_channels_first,
    is_on_signals,
)


def infer_axes(call: Call) -> Axes:
    """Return the axes of the tensor of `call.shape` that an operation returned."""
    axes = _apply_rule(call)
    return axes if axes is not None and axes.shape == tuple(call.shape) else unknown_axes(call.shape)


def _apply_rule(call: Call) -> Axes | None:
    operands = call.operands
    first = operands[0] if operands else None
    if is_channels_first(call.kind):
        return _infer_channels_first(call, first)
    if is_on_signals(call.kind):
        return _infer_signal(call, first)
    if call.kind in CHANNELS_LAST_KINDS:
        return _infer_channels_last(call, first)
    if first is None or call.kind not in MOVES:
        return _keep_axes(call)
    try:
        return MOVES[call.kind](call, first)
    except (TypeError, ValueError, IndexError, AttributeError, KeyError, RuntimeError):
        return None  # the function has the name of a torch function, but other parameters


def _keep_axes(call: Call) -> Axes | None:
    """Return the axes of the first operand of the same shape, for operations that are not known to move axes."""
    shape = call.shape
    candidates = [operand.axes for operand in call.operands if operand.shape == shape]
    axes = next((axes for axes in candidates if axes.is_known), candidates[0] if candidates else None)
    if call.kind in CHANNELS_FIRST_NORMS and (axes is None or not axes.is_known) and len(shape) in CHANNELS_FIRST_AXES:
        return named_axes(shape, CHANNELS_FIRST_AXES[len(shape)], call.label)
    return axes


def _infer_channels_first(call: Call, first: Operand | None) -> Axes:
    """Return ``(B, C, H, W)`` or ``(B, C, D, H, W)``. If the batch contains windows, their places stay known."""
    shape = call.shape
    names = CHANNELS_FIRST_AXES.get(len(shape))
    if names is None:
        same_rank = first is not None and len(first.shape) == len(shape)
        return resize_axes(first.axes, shape) if same_rank and first is not None else unknown_axes(shape)
    axes = named_axes(shape, names, call.label)
    if first is None or len(first.axes.items) != len(shape) or not first.axes.is_known:
        return axes
    before = first.axes.items
    has_windows = bool(before[0].names - {BATCH}) and before[0].size == shape[0]
    if not has_windows:
        return axes
    spatial = [
        resize_axis(old, size) if old.names == {name} or old.size == 1 else simple_axis(name, size)
        for old, size, name in zip(before[2:], shape[2:], names[2:], strict=True)
    ]
    return replace(axes, items=(before[0], axes.items[1], *spatial))


def _infer_signal(call: Call, first: Operand | None) -> Axes | None:
    """Return ``(B, C, L)``. If the argument's axes are known, as those of a grid in one axis, they stay known."""
    if len(call.shape) != len(SIGNAL_AXES):
        return _keep_axes(call)
    if first is not None and len(first.shape) == len(call.shape) and first.axes.is_known:
        return resize_axes(first.axes, call.shape)
    return named_axes(call.shape, SIGNAL_AXES, call.label)


def _infer_channels_last(call: Call, first: Operand | None) -> Axes:
    """Return the axes before the last, and channels.

    If a linear layer mixes positions (as in an MLP mixer), its last axis is unknown.
    """
    shape = call.shape
    axes = first.axes if first is not None and len(first.shape) == len(shape) else unknown_axes(shape)
    is_norm = "norm" in call.kind
    if is_norm:
        normalized = call.argument(1, "normalized_shape")
        if isinstance(normalized, (tuple, list)) and len(normalized) > 1:
            return axes
    if len(shape) < 2:
        return unknown_axes(shape)
    last = axes.items[-1]
    is_spatial = bool(last.names & {*SPATIAL, LENGTH}) and CHANNEL not in last.names
    if is_spatial and is_norm:
        return axes
    channels = simple_axis(UNKNOWN if is_spatial else CHANNEL, shape[-1])
    if axes.is_known:
        return replace(axes, items=(*axes.items[:-1], channels), origin=axes.origin or call.label)
    return _complete_channels_last(call, axes.items[:-1], channels)


def _complete_channels_last(call: Call, rest: tuple[Axis, ...], channels: Axis) -> Axes:
    """Return the axes of a result whose axes before the channels are partly known: the usual axes, if they fit."""
    shape = call.shape
    names = {2: (BATCH,), 4: (BATCH, HEIGHT, WIDTH), 5: (BATCH, DEPTH, HEIGHT, WIDTH)}.get(len(shape))
    if names is not None and all(UNKNOWN in axis.names or axis.size == 1 for axis in rest):
        known = (simple_axis(name, size) for name, size in zip(names, shape[:-1], strict=True))
        return Axes((*known, channels), call.label)
    if all(factor.name == UNKNOWN for factor in rest[0].factors):
        return Axes((simple_axis(BATCH, shape[0]), *rest[1:], channels), call.label)
    return Axes((*rest, channels))
