"""Random numbers by a seed, as operators that compiled and exported graphs keep.

A `torch.Generator` inside a model ends a graph of `torch.compile`; an operator of its own is a single call. The numbers
are drawn on the CPU, so they are the same on every device, and torch's global random numbers are left alone.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("surgery::draw_noise", mutates_args=())
def draw_noise(like: Tensor, seed: int) -> Tensor:
    """Return standard normal float32 ``(C, H, W)`` on the device of `like`, ``(B, C, H, W)``."""
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(like.shape[1:], generator=generator, dtype=torch.float32, device="cpu")
    return noise.to(like.device)


@torch.library.custom_op("surgery::draw_order", mutates_args=())
def draw_order(like: Tensor, seed: int) -> Tensor:
    """Return the numbers from 0 to ``H * W - 1`` in random order, int64 on the device of `like`, ``(B, C, H, W)``."""
    generator = torch.Generator("cpu").manual_seed(seed)
    count = like.shape[2] * like.shape[3]
    return torch.randperm(count, generator=generator, dtype=torch.int64, device="cpu").to(like.device)


@draw_noise.register_fake
def _noise_like(like: Tensor, seed: int) -> Tensor:  # noqa: ARG001 - the arguments of the operator
    return like.new_empty(like.shape[1:], dtype=torch.float32)


@draw_order.register_fake
def _order_like(like: Tensor, seed: int) -> Tensor:  # noqa: ARG001
    return like.new_empty(like.shape[2] * like.shape[3], dtype=torch.int64)
