"""The normalization layers of the public pix2pix code, which all of its networks share."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

Norm: TypeAlias = Literal["batch", "instance", "none"]


def build_norm(norm: Norm, channels: int) -> nn.Module | None:
    """Return a norm layer as the public code constructs it; None for "none".

    Batch norm learns a scale and tracks statistics; instance norm does neither.
    """
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    return None


def needs_bias(norm: Norm) -> bool:
    """Return whether a convolution before a norm has a bias: in the public code only before instance norm."""
    return norm == "instance"
