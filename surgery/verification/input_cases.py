"""The inputs that two models are compared on: those of the user, a larger batch, larger images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.graph import named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.eager import ExampleInputs


def input_cases(inputs: ExampleInputs) -> Iterator[tuple[str, ExampleInputs]]:
    """Yield names and inputs of the cases: the inputs, twice; a batch twice as large; images or videos twice as wide.

    The larger batch exists if all tensors of one dimension or more have a common batch size. Larger inputs exist if
    there are images or videos, all of one size; other tensors stay as they are. Both exist only if all tensors are in
    lists, tuples and dicts. The model may not take them, or take them as something else.
    """
    yield "example", inputs
    yield "again", inputs
    reached: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        reached.append(tensor)
        return tensor

    _map_tensors(inputs.example, note, {})
    named = {id(tensor) for _, tensor in named_tensors(inputs.example)}
    if named != {id(tensor) for tensor in reached} or any(tensor.layout is not torch.strided for tensor in reached):
        return
    batches = {len(tensor) for tensor in reached if tensor.ndim}
    if len(batches) == 1:
        yield f"batch {2 * min(batches)}", _with_tensors(inputs, lambda tensor: _append_mirrored(tensor, 0))
    sizes = {tuple(tensor.shape[-2:]) for tensor in reached if _is_image(tensor)}
    if len(sizes) == 1:
        height, width = min(sizes)
        widened = _with_tensors(inputs, lambda tensor: _append_mirrored(tensor, -1) if _is_image(tensor) else tensor)
        yield f"{height}x{2 * width}", widened


def _is_image(tensor: Tensor) -> bool:
    """Return whether a tensor may hold images or videos."""
    return tensor.ndim in (4, 5)


def _append_mirrored(tensor: Tensor, axis: int) -> Tensor:
    """Return a tensor followed by its mirror image along `axis`; a tensor without dimensions as it is."""
    return torch.cat([tensor, tensor.flip(-1)], axis) if tensor.ndim else tensor


def _with_tensors(inputs: ExampleInputs, change: Callable[[Tensor], Tensor]) -> ExampleInputs:
    return replace(inputs, example=_map_tensors(inputs.example, change, {}))


def _map_tensors(value: Any, change: Callable[[Tensor], Tensor], changed: dict[int, Tensor]) -> Any:
    """Return a value with changed tensors in its lists, tuples and dicts. A tensor that is given twice stays one."""
    if isinstance(value, Tensor):
        if id(value) not in changed:
            changed[id(value)] = change(value)
        return changed[id(value)]
    if type(value) in (list, tuple):
        return type(value)(_map_tensors(item, change, changed) for item in value)
    if type(value) is dict:
        return {name: _map_tensors(item, change, changed) for name, item in value.items()}
    return value
