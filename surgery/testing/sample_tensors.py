"""Sample tensors that checks call stages with: ordinary ones and unusual ones, each with a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from surgery.testing.violations import list_devices
from surgery.types import LEVELS, MINUS_INF, NAN, PLUS_INF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

MANY_CHANNELS = "2,000 channels"
"""The name of the value for which a sink of one file per channel writes 2,000 files."""


def generate_finite_maps() -> Iterator[tuple[str, Tensor]]:
    """Yield names and maps ``(B, C, H, W)``, float32 or float64, finite, none of them empty."""
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
    if "cuda" in list_devices():
        yield "maps on a GPU", normal(2, 3, 5, 5).cuda()


def generate_nonfinite_maps() -> Iterator[tuple[str, Tensor]]:
    """Yield names and maps ``(B, C, H, W)`` float32 that contain NaN or infinities."""
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 5, 6, generator=random)
    maps[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    yield "maps with NaN and infinities", maps
    maps = maps.clone()
    maps[1] = torch.nan
    yield "an image of NaN alone", maps
    yield "infinities alone", torch.full((1, 2, 3, 3), torch.inf)


def generate_edited_maps() -> Iterator[tuple[str, Tensor]]:
    """Yield names and maps ``(B, C, H, W)`` as a running model computes them: any float dtype, some not finite."""
    yield from generate_finite_maps()
    yield from generate_nonfinite_maps()
    maps = torch.randn(3, 4, 5, 7, generator=torch.Generator().manual_seed(0))
    yield "float16", maps.half()
    yield "bfloat16", maps.bfloat16()
    yield "one value of float16", maps[:1, :1, :1, :1].half()
    yield "channels last", maps.contiguous(memory_format=torch.channels_last)
    yield "maps of one row", maps[:, :, :1].clone()


def generate_codes() -> Iterator[tuple[str, Tensor]]:
    """Yield names and codes ``(B, C, H, W)`` uint8: even codes of values, and the codes of NaN and infinities.

    Since no odd code is among them, a tiler that computes new codes is found.
    """
    random = torch.Generator().manual_seed(0)
    shapes = ((3, 4, 8, 6), (1, 1, 1, 1), (1, 1, 9, 7), (2, 5, 1, 1), (1, 2000, 2, 2), (2, 3, 1, 700), (2, 1, 300, 1))
    for shape in shapes:
        codes = torch.randint(0, LEVELS // 2, shape, generator=random, dtype=torch.uint8) * 2
        flat = codes.view(-1)
        if len(flat) > 30:
            flat[:3] = torch.tensor([NAN, PLUS_INF, MINUS_INF], dtype=torch.uint8)
        yield f"codes of shape {shape}", codes
    yield "codes that are all the same", torch.full((2, 3, 4, 4), 125, dtype=torch.uint8)
    if "cuda" in list_devices():
        yield "codes on a GPU", codes.cuda()


def generate_values(batch: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield names and values of operations for a batch of so many images: any shape, any dtype."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, 5, 7, 6, generator=random)
    yield "an image", maps[:, :3].clamp(-1, 1)
    yield "maps", maps
    nonfinite = maps.clone()
    nonfinite[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    yield "maps with NaN and infinities", nonfinite
    yield "only NaN", torch.full((batch, 2, 3, 3), torch.nan)
    yield "a constant", torch.full((batch, 2, 3, 3), 0.5)
    yield "one channel", maps[:, :1].clone()
    yield "maps of 1x1", maps[:, :, :1, :1].clone()
    yield MANY_CHANNELS, maps[:, :1, :1, :1].repeat(1, 2000, 1, 1)
    yield "vectors", maps[:, :, 0, 0].clone()
    yield "tokens", maps[:, 0].clone()
    yield "volumes", maps.unflatten(1, (1, 5)).clone()
    yield "windows", torch.cat([maps, maps])
    yield "numbers", maps[:, 0, 0, 0].clone()
    yield "one number for the batch", maps[0, 0, 0, 0].clone()
    yield "no values", maps[:, :, :0].clone()
    yield "half", maps.half()
    yield "bfloat16", maps.bfloat16()
    yield "float64", maps.double()
    yield "int64", (maps * 9).long()
    yield "bool", maps > 0
    yield "complex", torch.complex(maps, maps)
    yield "a/strange: name, é, " + "long " * 60, maps.clone()
    if "cuda" in list_devices():
        yield "maps on a GPU", maps.cuda()
    yield "maps", maps.clone()  # the operation runs again
