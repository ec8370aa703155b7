"""Slightly different values for parameters, buffers and inputs, which show whether a graph holds frozen ones."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_BYTES = 2 << 30
"""The parameters of a larger model are not copied, so they keep their values."""

_SCALE = 1 - 1 / 64
"""Below 1, so that values stay in their range; exact in every floating dtype with 6 bits of fraction or more."""
_FOR_ZERO = 2.0**-10


def parameters_of_its_own(model: nn.Module) -> dict[int, Any]:
    """The memo of a deep copy of `model` that has parameters of its own: views of a parameter stay views of its copy.

    Empty for a model whose parameters take more than `MOST_BYTES`, or can't be copied.
    """
    if sum(parameter.nbytes for parameter in model.parameters()) > MOST_BYTES:
        return {}
    memo: dict[int, Any] = {}
    with suppress(Exception):  # out of memory, or a kind of tensor that can't be copied: they are shared
        for parameter in model.parameters():
            if type(parameter) is nn.Parameter:  # else it may be more than its values
                own = nn.Parameter(copy.deepcopy(parameter.data, memo), parameter.requires_grad)
                vars(own).update(vars(parameter))
                memo[id(parameter)] = own
        return memo
    return {}


def state_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers of a module, by their names."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def perturb_state(subject: nn.Module, other: nn.Module, original: nn.Module) -> None:
    """Perturb the parameters and buffers of a copy that it does not share with its original, and of another copy alike.

    The two may share them with each other. Only what the first has is changed in the second.
    """
    shared = {id(tensor) for _, tensor in state_of(original)}
    perturb(tensor for _, tensor in state_of(subject) if id(tensor) not in shared)
    values = dict(state_of(subject))
    with torch.no_grad():
        for name, tensor in state_of(other):
            if name in values and values[name] is not tensor:
                with suppress(Exception):  # it can't be written, and was not perturbed either
                    tensor.detach().copy_(values[name])


def perturb(tensors: Iterable[Tensor]) -> None:
    """Change floating and complex values in place by 1 to 4 percent; zeros become 2**-10.

    Values keep their sign, infinities and NaN stay. Rows are not all scaled alike. A tensor that can't be written (an
    expanded one, say) keeps its values.
    """
    with torch.no_grad():
        for tensor in tensors:
            if (tensor.is_floating_point() or tensor.is_complex()) and not tensor.is_meta:
                with suppress(Exception):
                    _perturb(tensor.detach())


def _perturb(values: Tensor) -> None:
    values.mul_(_SCALE)
    values.masked_fill_(values == 0, _FOR_ZERO)
    if values.ndim:
        longest = max(range(values.ndim), key=values.shape.__getitem__)
        values.transpose(0, longest)[1::2].mul_(_SCALE)
