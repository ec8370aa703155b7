"""What the networks have in common."""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import nn

Norm: TypeAlias = Literal["batch", "instance", "none"]


def build_norm(norm: Norm, channels: int) -> nn.Module | None:
    """The normalization of the public code: batch norm learns a scale and tracks statistics, instance norm neither."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels)
    return None


def needs_bias(norm: Norm) -> bool:
    """Whether a convolution beside a norm has a bias: in the public code exactly when that is instance norm."""
    return norm == "instance"
