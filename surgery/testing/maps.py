"""Maps that stages are tried on: ordinary ones, and those that went wrong somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.testing.promises import devices
from surgery.types import LEVELS, MINUS_INF, NAN, PLUS_INF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


def finite_maps() -> Iterator[tuple[str, Tensor]]:
    """``(B, C, H, W)`` float32 or float64, finite, none empty, and what each is in words."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=dtype)

    yield "three images of four channels", normal(3, 4, 8, 6)
    yield "one value", normal(1, 1, 1, 1)
    yield "one channel", normal(1, 1, 9, 7)
    yield "zeros", torch.zeros(1, 2, 3, 3)
    yield "a constant", torch.full((2, 2, 3, 3), -7.5)
    yield "maps of 1x1", normal(2, 5, 1, 1)
    yield "2,000 channels", normal(1, 2000, 2, 2)
    yield "positive values", normal(1, 2, 9, 9).abs() + 1
    yield "negative values", -normal(1, 2, 9, 9).abs() - 1
    yield "float64", normal(2, 3, 5, 7, dtype=torch.float64)
    yield "values of 1e30", normal(1, 3, 5, 5) * 1e30
    yield "values of 1e-30", normal(1, 3, 5, 5) * 1e-30
    yield "strided maps", normal(2, 6, 6, 4).permute(0, 3, 1, 2)
    yield "half precision made float32", normal(2, 3, 5, 5).half().float()
    if "cuda" in devices():
        yield "maps on a GPU", normal(2, 3, 5, 5).cuda()


def spoiled_maps() -> Iterator[tuple[str, Tensor]]:
    """``(B, C, H, W)`` float32 with NaN and infinities in them."""
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 5, 6, generator=random)
    maps[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    yield "maps with NaN and infinities", maps
    maps = maps.clone()
    maps[1] = torch.nan
    yield "an image of NaN alone", maps
    yield "infinities alone", torch.full((1, 2, 3, 3), torch.inf)


def codes() -> Iterator[tuple[str, Tensor]]:
    """``(B, C, H, W)`` uint8: codes of value, all of them even, and some of what is no value."""
    random = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 8, 6), (1, 1, 1, 1), (1, 1, 9, 7), (2, 5, 1, 1), (1, 2000, 2, 2), (2, 3, 1, 700), (2, 1, 300, 1))
    for shape in shapes:
        made = torch.randint(0, LEVELS // 2, shape, generator=random, dtype=torch.uint8) * 2
        flat = made.view(-1)
        if len(flat) > 30:
            flat[:3] = torch.tensor([NAN, PLUS_INF, MINUS_INF], dtype=torch.uint8)
        yield f"codes of shape {shape}", made
    yield "codes that are all the same", torch.full((2, 3, 4, 4), 125, dtype=torch.uint8)
    if "cuda" in devices():
        yield "codes on a GPU", made.cuda()
