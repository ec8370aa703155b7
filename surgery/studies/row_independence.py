"""Whether the entries of a batch are computed independently of each other, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.graph import named_tensors
from surgery.rewriting import insert
from surgery.studies.effects import main_output, precise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.layouts import MapView
    from surgery.studies.variant_runs import VariantRunner
    from surgery.types import Operation

_TOLERANCES = {torch.float16: 2e-2, torch.bfloat16: 5e-2, torch.float64: 1e-9}
"""How far the same entry may be apart in batches of one and of two, in shares of the largest value; for float32, 1e-4.

Kernels for another size of batch may add in another order.
"""


def find_batchable(
    runner: VariantRunner,
    values: Mapping[str, Any],
    repeated: Sequence[str],
    chosen: Sequence[Operation],
    views: Mapping[str, MapView],
) -> tuple[str | None, frozenset[str]]:
    """Run a model on an image, on another one, and on both; say which variants can share a batch.

    Returns why no variants can, or None; and the paths of the operations whose values have an entry for each image.
    `values` are the inputs of one image by name, of which those in `repeated` are the image's own.
    """
    other = {name: _vary(value) if name in repeated else value for name, value in values.items()}
    both = {name: _join(values[name], other[name]) if name in repeated else values[name] for name in values}
    opened = insert(runner.traced, chosen)
    sizes: dict[str, list[tuple[int, ...]]] = {}

    def keep(operation: Operation, value: Any) -> None:
        sizes.setdefault(operation.path, []).append(_entries(value, views.get(operation.path)))

    outputs: list[Tensor] = []
    for inputs in (values, other, both):
        try:
            found = main_output(runner.run(inputs, opened, keep))
        except Exception:  # noqa: BLE001 - the model's code may raise anything
            return "the model does not run on a batch of two", frozenset()
        if found is None:
            return "its output has no entry for each image", frozenset()
        outputs.append(precise(found[1]))
    one, two, joined = outputs
    if one.ndim == 0 or joined.shape[0] != 2 * one.shape[0] or joined.shape[1:] != one.shape[1:]:
        return "its output has no entry for each image", frozenset()
    expected = torch.cat((one, two))
    limit = _TOLERANCES.get(runner.dtype or torch.float32, 1e-4) * float(expected.abs().max().nan_to_num())
    difference = (joined - expected).abs().nan_to_num()
    if float(difference.max()) > limit:
        return "entries of a batch depend on each other, as with batch norm or dropout in train mode", frozenset()
    paths = (path for path, (first, _, last) in sizes.items() if last and first and last == tuple(2 * n for n in first))
    return None, frozenset(paths)


def _entries(value: Any, view: MapView | None) -> tuple[int, ...]:
    """Return how many entries each tensor in a value has."""
    counts: list[int] = []
    for _, tensor in named_tensors(value):
        axis = (view.batch_axis or 0) if view is not None and tensor.ndim == view.axes else 0
        counts.append(tensor.shape[axis] if tensor.ndim > axis else 0)
    return tuple(counts) if counts and all(count == counts[0] for count in counts) else ()


def _vary(value: Any) -> Any:
    """Return another input of the same shape: mirrored, and floats nearer to a quarter."""
    if isinstance(value, Tensor):
        mirrored = value.flip(-1)
        return mirrored * 0.5 + 0.25 if value.is_floating_point() else mirrored
    return [_vary(item) for item in value] if isinstance(value, list) else value


def _join(one: Any, other: Any) -> Any:
    return torch.cat((one, other)) if isinstance(one, Tensor) else one + other
