"""A level of a network: modules that are called one after the other, and a skip that is concatenated behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class Block(nn.Module):
    """Calls its modules in their order: ``(B, C, H, W) -> (B, C', H', W')``; with a skip ``(B, C' + S, H', W')``."""

    def __init__(self, modules: Mapping[str, nn.Module | None]) -> None:
        """`modules` are the modules by name; those that are None are left out."""
        super().__init__()
        for name, module in modules.items():
            if module is not None:
                self.add_module(name, module)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        for step in self.children():
            x = step(x)
        return x if skip is None else torch.cat([x, skip], 1)
