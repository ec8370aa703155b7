"""The PatchGAN discriminators of the public pix2pix code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from surgery.models.pix2pix.norms import build_norm, needs_bias

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.models.pix2pix.norms import Norm


class ConvBlock(nn.Module):
    """Convolution, norm, LeakyReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, norm: Norm, *, first: bool) -> None:
        super().__init__()
        padding = 0 if kernel == 1 else 1
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, padding, bias=first or needs_bias(norm))
        layer = None if first else build_norm(norm, out_channels)
        if layer is not None:
            self.norm = layer
        self.act = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x


class PatchGAN(nn.Module):
    """Scores overlapping patches: ``(B, in_channels, H, W)`` -> ``(B, 1, H', W')`` logits, where greater is more real.

    The input is the generator's input and the image to judge, concatenated along the channels: 6 channels by default.
    `depth` is 3 in `basic`, where each score sees 70 x 70 pixels. `width` is the number of channels of the first layer
    (ndf).
    """

    def __init__(self, depth: int = 3, *, in_channels: int = 6, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        self.depth = depth
        self.in_channels = in_channels
        self.width = width
        self.norm = norm
        self.size = 256
        self.multiple = 1
        channels = in_channels
        for level in range(depth + 1):
            out_channels = width * min(2**level, 8)
            stride = 2 if level < depth else 1
            self.add_module(f"layer{level + 1}", ConvBlock(channels, out_channels, 4, stride, norm, first=level == 0))
            channels = out_channels
        self.score = nn.Conv2d(channels, 1, 4, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x


class PixelGAN(nn.Module):
    """Scores every pixel from that pixel alone: ``(B, in_channels, H, W)`` -> ``(B, 1, H, W)`` logits."""

    def __init__(self, *, in_channels: int = 6, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        self.in_channels = in_channels
        self.width = width
        self.norm = norm
        self.size = 256
        self.multiple = 1
        self.layer1 = ConvBlock(in_channels, width, 1, 1, norm, first=True)
        self.layer2 = ConvBlock(width, 2 * width, 1, 1, norm, first=False)
        self.score = nn.Conv2d(2 * width, 1, 1, bias=needs_bias(norm))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x
