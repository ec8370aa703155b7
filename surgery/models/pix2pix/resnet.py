"""The ResNet generator of the public pix2pix and CycleGAN code.

After Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from surgery.models.pix2pix.norms import build_norm, needs_bias

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.models.pix2pix.norms import Norm


class ConvBlock(nn.Module):
    """Padding, a convolution, a norm and an activation; padding and norm are optional."""

    def __init__(
        self, conv: nn.Module, norm: nn.Module | None, act: nn.Module, *, pad: int = 0, name: str = "conv"
    ) -> None:
        super().__init__()
        if pad:
            self.pad = nn.ReflectionPad2d(pad)
        self.add_module(name, conv)
        if norm is not None:
            self.norm = norm
        self.add_module("tanh" if isinstance(act, nn.Tanh) else "act", act)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x


class ResidualBlock(nn.Module):
    """Two convolutions whose output is added to the input: ``(B, C, H, W) -> (B, C, H, W)``."""

    def __init__(self, channels: int, norm: Norm, *, dropout: bool) -> None:
        super().__init__()
        for number in (1, 2):
            self.add_module(f"pad{number}", nn.ReflectionPad2d(1))
            self.add_module(f"conv{number}", nn.Conv2d(channels, channels, 3, bias=needs_bias(norm)))
            layer = build_norm(norm, channels)
            if layer is not None:
                self.add_module(f"norm{number}", layer)
            if number == 1:
                self.act1 = nn.ReLU(inplace=True)
                if dropout:
                    self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        inner = x
        for step in self.children():
            inner = step(inner)
        return x + inner


class ResNet(nn.Module):
    """``(B, in_channels, H, W)`` in [-1, 1] -> ``(B, out_channels, H, W)`` in [-1, 1].

    Two halvings, `blocks` residual blocks (6 or 9), two doublings. Output sizes are rounded up to multiples of 4.
    `width` is the number of channels of the outermost level (ngf).
    """

    def __init__(
        self,
        blocks: int = 9,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        norm: Norm = "batch",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.norm = norm
        self.dropout = dropout
        self.size = 256
        bias = needs_bias(norm)
        self.stem = ConvBlock(
            nn.Conv2d(in_channels, width, 7, bias=bias), build_norm(norm, width), nn.ReLU(inplace=True), pad=3
        )
        for level in (1, 2):
            channels = width * 2**level
            conv = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=bias)
            self.add_module(f"down{level}", ConvBlock(conv, build_norm(norm, channels), nn.ReLU(inplace=True)))
        self.blocks = nn.Sequential(*(ResidualBlock(4 * width, norm, dropout=dropout) for _ in range(blocks)))
        for level in (2, 1):
            channels = width * 2 ** (level - 1)
            deconv = nn.ConvTranspose2d(2 * channels, channels, 3, 2, padding=1, output_padding=1, bias=bias)
            stage = ConvBlock(deconv, build_norm(norm, channels), nn.ReLU(inplace=True), name="deconv")
            self.add_module(f"up{level}", stage)
        self.head = ConvBlock(nn.Conv2d(width, out_channels, 7), None, nn.Tanh(), pad=3)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x
