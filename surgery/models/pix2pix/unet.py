"""The U-Net generator of pix2pix, as the public PyTorch code has it (junyanz/pytorch-CycleGAN-and-pix2pix).

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from surgery.errors import ModelError
from surgery.models.pix2pix.norms import build_norm, needs_bias

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.models.pix2pix.norms import Norm

MIN_DEPTH = 5
"""The fewest levels: three that widen, one of constant width, and the innermost."""


class DownBlock(nn.Module):
    """LeakyReLU, a convolution that halves the size, and a norm: ``(B, C, H, W) -> (B, C', H/2, W/2)``.

    The LeakyReLU works in place, as in the public code, so the skip connection carries its output.
    """

    def __init__(self, channels: int, out_channels: int, norm: Norm, *, outermost: bool, innermost: bool) -> None:
        super().__init__()
        if not outermost:
            self.act = nn.LeakyReLU(0.2, inplace=True)
        self.conv = nn.Conv2d(channels, out_channels, 4, stride=2, padding=1, bias=needs_bias(norm))
        layer = None if outermost or innermost else build_norm(norm, out_channels)
        if layer is not None:
            self.norm = layer

    def forward(self, x: Tensor) -> Tensor:
        for step in self.children():
            x = step(x)
        return x


class UpBlock(nn.Module):
    """ReLU, a transposed convolution that doubles the size, a norm and dropout; the skip is concatenated in front.

    ``(B, C, H, W)``, skip ``(B, S, 2H, 2W)`` -> ``(B, S + C', 2H, 2W)``. The outermost ends in tanh and has no skip.
    """

    def __init__(self, channels: int, out_channels: int, norm: Norm, *, outermost: bool, dropout: bool) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        bias = outermost or needs_bias(norm)
        self.deconv = nn.ConvTranspose2d(channels, out_channels, 4, stride=2, padding=1, bias=bias)
        layer = None if outermost else build_norm(norm, out_channels)
        if layer is not None:
            self.norm = layer
        if dropout:
            self.dropout = nn.Dropout(0.5)
        if outermost:
            self.tanh = nn.Tanh()

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        for step in self.children():
            x = step(x)
        return x if skip is None else torch.cat([skip, x], 1)


class UNet(nn.Module):
    """``(B, in_channels, H, W)`` in [-1, 1] -> ``(B, out_channels, H, W)`` in [-1, 1].

    `depth` is the number of halvings (7 in unet_128, 8 in unet_256); H and W must be multiples of ``2 ** depth``.
    `width` is the number of channels of the outermost level (ngf). Dropout is in the levels of ``8 * width`` channels
    except the innermost, and is active in train mode only.

    Raises ModelError for fewer than 5 levels.
    """

    def __init__(
        self,
        depth: int = 8,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        width: int = 64,
        norm: Norm = "batch",
        dropout: bool = True,
    ) -> None:
        super().__init__()
        if depth < MIN_DEPTH:
            raise ModelError(f"depth is at least {MIN_DEPTH} in the public architecture, not {depth}")
        self.depth = depth
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.norm = norm
        self.dropout = dropout
        self.size = self.multiple = 2**depth
        widths = [width * min(2**level, 8) for level in range(depth)]
        for level in range(1, depth + 1):
            down = DownBlock(
                in_channels if level == 1 else widths[level - 2],
                widths[level - 1],
                norm,
                outermost=level == 1,
                innermost=level == depth,
            )
            self.add_module(f"down{level}", down)
        for level in range(depth, 0, -1):
            up = UpBlock(
                widths[level - 1] * (1 if level == depth else 2),
                out_channels if level == 1 else widths[level - 2],
                norm,
                outermost=level == 1,
                dropout=dropout and 5 <= level < depth,
            )
            self.add_module(f"up{level}", up)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level in range(1, self.depth + 1):
            x = self.get_submodule(f"down{level}")(x)
            skips.append(x)
        skips.pop()
        for level in range(self.depth, 1, -1):
            x = self.get_submodule(f"up{level}")(x, skips.pop())
        return self.get_submodule("up1")(x)  # type: ignore[no-any-return]
