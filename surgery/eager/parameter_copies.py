"""Copies of parameters, for runs of models whose forward writes to them."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from surgery.graph import copy_isolating_hooks

if TYPE_CHECKING:
    from collections.abc import Iterable

M = TypeVar("M", bound=nn.Module)

MAX_COPIED_BYTES = 2 << 30
"""Parameters that take more are not copied."""


def copy_parameters(parameters: Iterable[nn.Parameter]) -> dict[int, Any]:
    """Return copies of parameters as the memo of a deep copy, by the identity of the original.

    Views of a parameter become views of its copy. Empty if they take more than `MAX_COPIED_BYTES`, or can't be copied.
    """
    parameters = list(parameters)
    if sum(parameter.nbytes for parameter in parameters) > MAX_COPIED_BYTES:
        return {}
    memo: dict[int, Any] = {}
    with suppress(Exception):  # out of memory, or a kind of tensor that can't be copied
        for parameter in parameters:
            if type(parameter) is nn.Parameter:  # a subclass may be more than its values
                copied = nn.Parameter(copy.deepcopy(parameter.data, memo), parameter.requires_grad)
                vars(copied).update(vars(parameter))
                memo[id(parameter)] = copied
        return memo
    return {}


def copy_to_run(model: M, other: nn.Module) -> M:
    """Return a copy of a model that shares with it what the model shares with `other`, and no other parameter.

    A traced model has its own copies of the parameters that forward writes to.
    """
    shared = {id(parameter) for parameter in other.parameters()}
    unshared = [parameter for parameter in model.parameters() if id(parameter) not in shared]
    return copy_isolating_hooks(model, copy_parameters(unshared))
