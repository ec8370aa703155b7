"""The axes after operations that move, merge, split, add or remove axes.

Each rule takes the call and its first tensor argument, and returns the axes of the result, or None if they are unknown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from surgery.layouts.axes import (
    KEY,
    UNKNOWN,
    Axes,
    Axis,
    concatenate_axes,
    insert_axis,
    permute_axes,
    remove_axes,
    replace_axis,
    reshape_axes,
    resize_axes,
    simple_axis,
    slice_axis,
)
from surgery.layouts.operation_calls import Call, Operand, flatten_nested

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def _permute(call: Call, first: Operand) -> Axes:
    order = _integers(call.args[1:]) or _integers([call.options["dims"]])
    return permute_axes(first.axes, [place % len(first.shape) for place in order])


def _transpose(call: Call, first: Operand) -> Axes:
    one, other = call.argument(1, "dim0"), call.argument(2, "dim1")
    if one is None:  # swapaxes has other argument names
        one, other = call.options["axis0"], call.options["axis1"]
    order = list(range(len(first.shape)))
    order[one], order[other] = order[other], order[one]
    return permute_axes(first.axes, order)


def _matrix_transpose(call: Call, first: Operand) -> Axes:
    order = list(range(len(first.shape)))
    if call.kind in ("mt", "adjoint"):
        order[-2:] = order[:-3:-1]
    else:
        order.reverse()
    return permute_axes(first.axes, order)


def _movedim(call: Call, first: Operand) -> Axes:
    # torch computes where the axes go: in a probe, each has a size of its own.
    probe = torch.empty([2 + place for place in range(len(first.shape))], device="meta")
    sizes = torch.movedim(probe, call.argument(1, "source"), call.argument(2, "destination")).shape
    return permute_axes(first.axes, [size - 2 for size in sizes])


def _reshape(call: Call, first: Operand) -> Axes | None:
    return reshape_axes(first.axes, call.shape)


def _unsqueeze(call: Call, first: Operand) -> Axes:
    return insert_axis(first.axes, int(call.argument(1, "dim")) % len(call.shape), Axis(()))


def _cat(call: Call, first: Operand) -> Axes:
    along = int(call.argument(1, "dim", call.options.get("axis", 0)))
    parts = [each.axes for each in call.operands if len(each.shape) == len(first.shape)]
    lead = next((axes for axes in parts if axes.is_known), parts[0])
    return replace_axis(lead, along, concatenate_axes([axes.items[along] for axes in parts], call.shape[along]))


def _stack(call: Call, first: Operand) -> Axes:
    place = int(call.argument(1, "dim", 0)) % len(call.shape)
    return insert_axis(first.axes, place, simple_axis(UNKNOWN, call.shape[place]))


def _split(call: Call, first: Operand) -> Axes:
    """Return the axes of one part of a split or a chunk; for `unbind`, without the split axis."""
    if len(call.shape) < len(first.shape):
        return remove_axes(first.axes, [int(call.argument(1, "dim", 0)) % len(first.shape)])
    return resize_axes(first.axes, call.shape)


def _narrow(call: Call, first: Operand) -> Axes:
    names = enumerate(("dim", "start", "length"), 1)
    along, start, length = (int(call.argument(place, name)) for place, name in names)
    return replace_axis(first.axes, along, slice_axis(first.axes.items[along], start, start + length, 1, length))


def _select(call: Call, first: Operand) -> Axes:
    return remove_axes(first.axes, [int(call.argument(1, "dim")) % len(first.shape)])


def _getitem(call: Call, first: Operand) -> Axes | None:
    keys = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    if any(isinstance(key, (Operand, list)) for key in keys):
        return None
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        skipped = len(first.shape) - sum(key is not None and key is not Ellipsis for key in keys)
        keys = (*keys[:place], *[slice(None)] * skipped, *keys[place + 1 :])
    remaining, items = list(first.axes.items), []
    for key in keys:
        if key is None:
            items.append(Axis(()))
            continue
        axis = remaining.pop(0)
        if isinstance(key, slice):
            start, stop, step = key.indices(axis.size)
            items.append(slice_axis(axis, start, stop, step, len(range(start, stop, step))))
    return replace(first.axes, items=(*items, *remaining))


def _reduce(call: Call, first: Operand) -> Axes | None:
    shape = call.shape
    dims = call.argument(1, "dim", call.options.get("axis"))
    if dims is None or isinstance(dims, Operand):  # a reduction to one number, or the elementwise max of two tensors
        return first.axes if shape == first.shape else None
    if len(shape) == len(first.shape):
        return resize_axes(first.axes, shape)
    return remove_axes(first.axes, {place % len(first.shape) for place in _integers([dims])})


def _matmul(call: Call, first: Operand) -> Axes | None:
    second = call.operands[1]
    if len(first.shape) != len(second.shape) or len(first.shape) != len(call.shape):
        return first.axes if first.shape == call.shape else None
    lead = first.axes if first.axes.is_known or not second.axes.is_known else second.axes
    last = second.axes.items[-1]
    if last.names & lead.items[-2].names:  # positions against positions: an attention map
        last = simple_axis(KEY, last.size)
    return replace(lead, items=(*lead.items[:-2], first.axes.items[-2], last))


def _einsum(call: Call, _first: Operand) -> Axes | None:
    equation = call.args[0].replace(" ", "")
    before, arrow, after = equation.partition("->")
    letters: dict[str, Axis] = {}
    for term, operand in zip(before.split(","), call.operands, strict=True):
        for letter, axis in zip(term, operand.axes.items, strict=True):
            if letter not in letters or UNKNOWN in letters[letter].names:
                letters[letter] = axis
    if not arrow or "." in equation:
        return None
    return replace(call.operands[0].axes, items=tuple(letters[letter] for letter in after))


def _expand(call: Call, first: Operand) -> Axes | None:
    """Return the axes of an expanded or repeated tensor: those whose size has changed are unknown."""
    shape = call.shape
    if len(first.shape) != len(shape):
        return None
    pairs = zip(first.axes.items, shape, strict=True)
    items = [axis if axis.size == size else simple_axis(UNKNOWN, size) for axis, size in pairs]
    return replace(first.axes, items=tuple(items))


def _pad(call: Call, first: Operand) -> Axes | None:
    return resize_axes(first.axes, call.shape) if len(first.shape) == len(call.shape) else None


def _attention(call: Call, first: Operand) -> Axes | None:
    value = call.operands[2] if len(call.operands) > 2 else first
    return replace(first.axes, items=(*first.axes.items[:-1], value.axes.items[-1]))


MOVES: dict[str, Callable[[Call, Operand], Axes | None]] = {
    **dict.fromkeys(("permute",), _permute),
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys(("t", "mt", "adjoint"), _matrix_transpose),
    **dict.fromkeys(("movedim", "moveaxis"), _movedim),
    **dict.fromkeys(["reshape", "view", "flatten", "unflatten", "squeeze", "view_as", "reshape_as"], _reshape),
    "unsqueeze": _unsqueeze,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": _stack,
    **dict.fromkeys(("chunk", "split", "tensor_split", "unbind", "split_with_sizes"), _split),
    "narrow": _narrow,
    "select": _select,
    "getitem": _getitem,
    **dict.fromkeys(["mean", "sum", "amax", "amin", "max", "min", "std", "var", "prod", "logsumexp", "norm"], _reduce),
    **dict.fromkeys(("matmul", "bmm"), _matmul),
    "einsum": _einsum,
    **dict.fromkeys(("expand", "expand_as", "repeat", "tile", "broadcast_to"), _expand),
    **dict.fromkeys(
        ["pad", "zeropad2d", "reflectionpad2d", "replicationpad2d", "constantpad2d", "circularpad2d"], _pad
    ),
    "scaled_dot_product_attention": _attention,
}
"""Kind of an operation -> the rule for its axes."""


def _integers(values: Sequence[Any]) -> list[int]:
    return [int(value) for value in flatten_nested(values) if isinstance(value, int)]
