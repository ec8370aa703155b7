"""The PatchGAN discriminators of TensorFlow's tutorial and of affinelayer's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.stages import Preprocessing
    from surgery_tensorflow.networks.blocks import Block


class PatchGAN(nn.Module):
    """Scores overlapping patches: ``(B, in_channels, H, W)`` -> ``(B, 1, H', W')``, where greater is more real.

    The input is the generator's input and the image to judge, concatenated along the channels. `score` returns logits,
    and `sigmoid`, which only affinelayer's network has, probabilities.
    """

    def __init__(self, layers: Sequence[Block], score: nn.Module, in_channels: int, *, sigmoid: bool = False) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.size = 256
        self.multiple = 1
        self.preprocessing: Preprocessing | None = None
        for number, layer in enumerate(layers, 1):
            self.add_module(f"layer{number}", layer)
        self.score = score
        if sigmoid:
            self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x
