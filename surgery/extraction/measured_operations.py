"""What a traced model says about its operations to measures: their modules, and the upsampling before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.graph import find_edges, operations
from surgery.stages import MeasuredOperation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from surgery.graph import ValueSource
    from surgery.types import Operation, TensorSpec

_LEAST_FACTOR = 1.5
"""A value that is so many times as high as an operand is upsampled; one that is so many times lower, downsampled."""


def find_measured_operations(traced: nn.Module) -> Mapping[str, MeasuredOperation]:
    """Return the operations of a traced or rewritten model for measures, by path; ``"output"`` is the output.

    The upsampling of an operation without one is that of the operand that was computed last, unless the operation
    makes its values smaller. Without an example, only transposed convolutions are known to upsample.
    """
    edges = find_edges(traced)
    found: dict[str, MeasuredOperation] = {}
    for operation in operations(traced):
        module = _find_module(traced, operation)
        sources = [source for source in edges.operands.get(operation.name, ()) if source.kind != "attribute"]
        upsampling = own = _own_upsampling(operation, module, sources)
        if own is None and not _is_downsampled(operation, sources):
            upsampling = _last_upsampling(sources, found)
        found[operation.path] = MeasuredOperation(operation, module, upsampling, is_upsampling=own is not None)
    if len(edges.output) == 1 and (last := found.get(edges.output[0].path)):
        found["output"] = MeasuredOperation(last.operation, None, last.upsampling)
    return found


def _find_module(traced: nn.Module, operation: Operation) -> nn.Module | None:
    """Return the leaf module that an operation calls; for an edited value, that of the operation before the edit."""
    path = operation.path.partition("@")[0].rstrip("'")
    if operation.kind == "edit" or path not in operation.scopes:
        return None
    try:
        return traced.get_submodule(path)
    except AttributeError:
        return None


def _own_upsampling(operation: Operation, module: nn.Module | None, sources: list[ValueSource]) -> int | None:
    """Return by how much an operation upsamples; None if it does not."""
    stride = getattr(module, "stride", None)
    if operation.kind == "convtranspose2d" and isinstance(stride, tuple):
        return max(stride) if max(stride) > 1 else None
    size = _map_size(operation.tensors)
    before = [each for source in sources if (each := _map_size(source.tensors)) is not None]
    if size is None or not before:
        return None
    factor = min(max(now / then for now, then in zip(size, each, strict=True)) for each in before)
    return max(2, round(factor)) if factor >= _LEAST_FACTOR else None


def _is_downsampled(operation: Operation, sources: list[ValueSource]) -> bool:
    size = _map_size(operation.tensors)
    before = [each for source in sources if (each := _map_size(source.tensors)) is not None]
    return size is not None and any(max(each) >= _LEAST_FACTOR * max(size) for each in before)


def _last_upsampling(sources: list[ValueSource], found: Mapping[str, MeasuredOperation]) -> int | None:
    known = [found[source.path] for source in sources if source.path in found]
    upsampled = [measured for measured in known if measured.upsampling is not None]
    return max(upsampled, key=lambda measured: measured.operation.index).upsampling if upsampled else None


def _map_size(tensors: tuple[TensorSpec, ...] | None) -> tuple[int, int] | None:
    """Return the height and width of a value that is a single batch of maps ``(B, C, H, W)``; else None."""
    if tensors is None or len(tensors) != 1 or len(tensors[0].shape) != 4 or 0 in tensors[0].shape:
        return None
    height, width = tensors[0].shape[2:]
    return height, width
