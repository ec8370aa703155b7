"""Normalization layers that compute what TensorFlow's do, also for a single value in a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from torch import Tensor


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalization: ``(B, C, H, W) -> (B, C, H, W)``.

    Where the batch has one value in a channel, its own statistics give the bias, as in TensorFlow; PyTorch's layer
    raises. With ``track_running_stats=False`` these statistics are used in eval mode too.
    """

    is_operation = True

    def forward(self, x: Tensor) -> Tensor:
        uses_batch = self.training or self.running_mean is None
        return _normalize_single(self, x) if uses_batch and x.numel() == x.shape[1] else super().forward(x)


class InstanceNorm2d(nn.Module):
    """Instance normalization with a scale and an offset for each channel: ``(B, C, H, W) -> (B, C, H, W)``.

    The statistics are those of each image, in train mode and in eval mode. Where a channel of an image has one value,
    the result is the offset.
    """

    is_operation = True

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:].numel() == 1:
            return _normalize_single(self, x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def _normalize_single(norm: BatchNorm2d | InstanceNorm2d, x: Tensor) -> Tensor:
    """Return the bias for each value, and NaN for a value that is not finite, as the division of zero would give."""
    return (x - x) * norm.weight[:, None, None] + norm.bias[:, None, None]
