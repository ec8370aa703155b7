"""Small models to edit."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Skipping(nn.Module):
    """A skip that is a ReLU's value by the name of what the ReLU writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.inner = nn.Conv2d(4, 2, 3, padding=1)
        self.out = nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        inner = self.inner(self.act(h))
        return self.out(torch.cat([h, inner], 1))


class Transformer(nn.Module):
    """``(B, 3, 8, 8)`` images as a class token and 4x4 tokens of 6 features."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 2, 2)
        self.token = nn.Parameter(torch.arange(6.0)[None, None])
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.head(self.norm(tokens))
