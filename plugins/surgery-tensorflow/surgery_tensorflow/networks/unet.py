"""The U-Net generators of TensorFlow's tutorial and of affinelayer's code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from surgery.stages import Preprocessing
    from surgery_tensorflow.networks.blocks import Block


class UNet(nn.Module):
    """``(B, in_channels, H, W)`` in [-1, 1] -> ``(B, out_channels, H, W)`` in [-1, 1].

    H and W must be multiples of ``2 ** depth``. Each level but the innermost passes the output of its ``down`` to the
    ``up`` of the level above, which concatenates it behind its own.
    """

    def __init__(self, downs: Sequence[Block], ups: Sequence[Block], in_channels: int) -> None:
        """`downs` are from the outermost level inward, and `ups`, as many, from the innermost level outward."""
        super().__init__()
        self.depth = len(downs)
        self.in_channels = in_channels
        self.multiple = 2**self.depth
        self.size = max(256, self.multiple)
        self.preprocessing: Preprocessing | None = None
        for level, down in enumerate(downs, 1):
            self.add_module(f"down{level}", down)
        for level, up in zip(range(self.depth, 0, -1), ups, strict=True):
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
