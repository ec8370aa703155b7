"""What linear kernels read: those that move, sum or interpolate elements, of which autograd knows where they come from.

A gradient of positive random numbers arrives at each element that is read, and sums of them don't cancel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from surgery.diagnosis.kernel_calls import Given, KernelCall

_SOURCES = frozenset({"self", "input", "tensors", "src", "source", "values", "value"})
"""The names of the arguments that such kernels are linear in. The others are indices, and numbers."""

_MOVES = (
    "cat stack constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d flip roll repeat tril triu gather index _unsafe_index index_select take index_put "
    "_unsafe_index_put index_add index_copy scatter scatter_add select_scatter slice_scatter diagonal_scatter "
    "pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im max_unpool2d max_unpool3d rot90 unfold_copy "
    "diag_embed cumsum trace"
)
_RESAMPLES = (
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "_upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d "
    "_upsample_bilinear2d_aa _upsample_bicubic2d_aa avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d"
)
LINEAR = frozenset(f"{_MOVES} {_RESAMPLES}".split())
"""The kernels that `read_linear` is for."""

_POOLS = {"adaptive_max_pool2d": "_adaptive_avg_pool2d", "adaptive_max_pool3d": "_adaptive_avg_pool3d"}
"""Kernels that read what a linear kernel reads."""
WINDOWED_AS_MEANS = frozenset(_POOLS)


def read_linear(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """Yield what a linear kernel reads for some elements of its value; everything if its indices were computed."""
    everything = torch.ones((), dtype=torch.bool)
    probes: dict[int, Tensor] = {}
    for name, given in call.tensors():
        if name in _SOURCES:
            probes[id(given)] = torch.zeros(given.place.size, dtype=torch.float64, requires_grad=True)

    if any(given.is_followed for _, given in call.tensors() if id(given) not in probes):
        yield from ((given, everything) for _, given in call.tensors())  # the indices may have been others
        return

    def replace(given: Given) -> Tensor:
        # Cloned, since a kernel in place may not write to a leaf.
        return probes[id(given)].clone() if id(given) in probes else _indices(given)

    with torch.inference_mode(mode=False), torch.enable_grad():
        value = call.run(replace)
        gradients = _pull_back(value[0] if isinstance(value, tuple) else value, list(probes.values()), elements)
    found = dict(zip(probes, gradients, strict=True))
    for _, given in call.tensors():
        yield given, found.get(id(given), everything)


def read_adaptive_pool(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """Yield what an adaptive pool reads: the windows of the adaptive mean of this size."""
    given = call.arguments["self"]
    with torch.inference_mode(mode=False), torch.enable_grad():
        probe = torch.zeros(given.place.size, dtype=torch.float64, requires_grad=True)
        means: Any = getattr(torch.ops.aten, _POOLS[call.name])
        (read,) = _pull_back(means(probe, call.arguments["output_size"]), [probe], elements)
    yield given, read


def read_convolution(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """Yield what a convolution or a transposed one reads: all channels of a group at once, and all weights."""
    arguments = call.arguments
    given, groups = arguments["input"], arguments["groups"]
    batch, channels, *size = given.place.size
    kernel = arguments["weight"].place.size[2:]
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    with torch.inference_mode(mode=False), torch.enable_grad():
        probe = torch.zeros(batch, groups, *size, dtype=torch.float64, requires_grad=True)
        ones = torch.ones(groups, 1, *kernel, dtype=torch.float64)
        value = torch.ops.aten.convolution(probe, ones, None, *(arguments[name] for name in names))
        (read,) = _pull_back(value, [probe], elements.unflatten(1, (groups, -1)).any(2))
    yield given, read.repeat_interleave(channels // groups, 1)
    for _, other in call.tensors():
        if other is not given:
            yield other, torch.ones((), dtype=torch.bool)


def read_max_pool(call: KernelCall, elements: Tensor) -> Iterator[tuple[Given, Tensor]]:
    """Yield what a pool of maxima reads: its windows, as far as they are inside of the value."""
    given = call.arguments["self"]
    axes = 3 if call.name.startswith("max_pool3d") else 2
    size = given.place.size[-axes:]
    kernel, padding, dilation = (
        _per_axis(call.arguments[name], axes) for name in ("kernel_size", "padding", "dilation")
    )
    stride = _per_axis(call.arguments["stride"], axes) if call.arguments["stride"] else kernel
    spread: Any = torch.nn.functional.conv_transpose2d if axes == 2 else torch.nn.functional.conv_transpose3d
    maps = elements.reshape(-1, 1, *elements.shape[-axes:]).double()
    windows = spread(maps, torch.ones(1, 1, *kernel, dtype=torch.float64), stride=stride, dilation=dilation) > 0
    read = torch.zeros(len(maps), 1, *size, dtype=torch.bool)
    inside = windows[(..., *(slice(skip, skip + count) for skip, count in zip(padding, size, strict=True)))]
    corner: Any = (..., *(slice(0, count) for count in inside.shape[-axes:]))
    read[corner] = inside
    yield given, read.reshape(given.place.size)


def _pull_back(value: Tensor, probes: Sequence[Tensor], elements: Tensor) -> list[Tensor]:
    """Return which elements of each probe some elements of a value are made of."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(elements.shape, dtype=torch.float64, generator=generator) + 0.5
    gradients = torch.autograd.grad(value, probes, numbers * elements, allow_unused=True)
    return [
        torch.zeros_like(probe, dtype=torch.bool) if gradient is None else gradient != 0
        for probe, gradient in zip(probes, gradients, strict=True)
    ]


def _indices(given: Given) -> Tensor:
    return torch.zeros(given.place.size, dtype=torch.float64) if given.data is None else given.data.cpu()


def _per_axis(given: Any, axes: int) -> list[int]:
    numbers = [int(number) for number in given] if isinstance(given, (list, tuple)) else [int(given)]
    return numbers * axes if len(numbers) == 1 else numbers
