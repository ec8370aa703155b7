"""The axes of a value that the operations which use it require."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.layouts.axes import Axes, named_axes
from surgery.layouts.operation_kinds import (
    AXIS_PRESERVING_KINDS,
    CHANNELS_FIRST_AXES,
    CHANNELS_LAST_AXES,
    CHANNELS_LAST_KINDS,
    is_channels_first,
    is_extractor_node,
    node_kind,
    node_label,
)

if TYPE_CHECKING:
    from torch import fx, nn

MAX_SEARCHED_NODES = 12


def find_required_axes(module: nn.Module, node: fx.Node, shape: tuple[int, ...]) -> Axes | None:
    """Return the axes required by the nearest operation that uses a value and needs particular axes; None if none does.

    `node` is the node of the value, `shape` its shape.

    The search passes through extractors and operations that preserve axes, and visits at most `MAX_SEARCHED_NODES`.
    """
    waiting, seen = list(node.users), {node}
    while waiting and len(seen) < MAX_SEARCHED_NODES:
        user = waiting.pop(0)
        if user in seen or not user.op.startswith("call_"):
            continue
        seen.add(user)
        if is_extractor_node(module, user):
            waiting = [*user.users, *waiting]
            continue
        kind = node_kind(module, user)
        names = None
        if is_channels_first(kind):
            names = CHANNELS_FIRST_AXES.get(len(shape))
        elif kind in CHANNELS_LAST_KINDS and not _normalizes_several_axes(module, user):
            names = CHANNELS_LAST_AXES.get(len(shape))
        if names is not None:
            return named_axes(shape, names, f"{node_label(module, user)}, which takes it")
        if kind in AXIS_PRESERVING_KINDS:
            waiting += list(user.users)
    return None


def _normalizes_several_axes(module: nn.Module, node: fx.Node) -> bool:
    """Return whether a layer norm normalizes over more than the last axis."""
    shape = node.args[1] if len(node.args) > 1 else node.kwargs.get("normalized_shape")
    if node.op == "call_module":
        shape = getattr(module.get_submodule(str(node.target)), "normalized_shape", None)
    return isinstance(shape, (tuple, list)) and len(shape) > 1
