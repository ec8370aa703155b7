"""Slightly different values for parameters, buffers and inputs, which show whether a graph stores them as constants."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SCALE = 1 - 1 / 64
"""Below 1, so that values stay in their range; exact in every floating dtype with 6 bits of fraction or more."""
_INSTEAD_OF_ZERO = 2.0**-10


def named_state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of a module with their names."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def perturb_state(model: nn.Module, graph: nn.Module, original: nn.Module) -> None:
    """Perturb the parameters and buffers of a copy of `original` and of a copy of its graph, both in the same way.

    Tensors that a copy shares with the original stay as they are. The two copies may share tensors with each other.
    """
    shared = {id(tensor) for _, tensor in named_state(original)}
    perturb(tensor for _, tensor in named_state(model) if id(tensor) not in shared)
    values = dict(named_state(model))
    with torch.no_grad():
        for name, tensor in named_state(graph):
            if name in values and values[name] is not tensor:
                with suppress(Exception):  # a tensor that can't be written was not perturbed either
                    tensor.detach().copy_(values[name])


def perturb(tensors: Iterable[Tensor]) -> None:
    """Change floating and complex values in place by 1 to 4 percent; zeros become 2**-10.

    Values keep their sign; infinities and NaN stay. Not all rows are scaled alike. A tensor that can't be written, such
    as an expanded one, keeps its values.
    """
    with torch.no_grad():
        for tensor in tensors:
            if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_meta:
                with suppress(Exception):
                    _perturb_values(tensor.detach())


def _perturb_values(values: Tensor) -> None:
    values.mul_(_SCALE)
    values.masked_fill_(values == 0, _INSTEAD_OF_ZERO)
    if values.ndim:
        longest = max(range(values.ndim), key=values.shape.__getitem__)
        values.transpose(0, longest)[1::2].mul_(_SCALE)
