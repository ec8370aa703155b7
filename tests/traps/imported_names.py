"""Functions that a module has imported by name: they are the originals, whatever stands in torch's namespace."""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from torch import Tensor, get_default_dtype, is_grad_enabled, is_tensor, manual_seed, nn, zeros
from torch import get_rng_state as read_state
from torch.random import set_rng_state

from tests.traps import trap


@trap()
class SeedsByName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        manual_seed(3)
        return x + torch.rand(3, 8, 8)


@trap()
class RewindsByName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        state = read_state()
        first = torch.rand(3, 8, 8)
        set_rng_state(state)
        return x + first + torch.rand(3, 8, 8)


@trap()
class AsksForATensorByName(nn.Module):
    def forward(self, x: Any) -> Tensor:
        return x * 2 if is_tensor(x) else x


@trap(refused="a branch or loop")
class AsksForGradientsByName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if is_grad_enabled() else x  # here


@trap()
class MakesByName(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + zeros(3, 8, 8, dtype=get_default_dtype(), device=x.device)


@trap()
class RootByName(nn.Module):
    """A function of `math` takes no proxy."""

    def forward(self, x: Tensor) -> Tensor:
        return x / sqrt(x.shape[1])
