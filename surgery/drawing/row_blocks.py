"""Blocks of rows that are small enough to stay in the cache of a CPU core during several passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

BLOCK_SIZE = 1 << 16
"""Values in a block."""


def rows_per_block(row_size: int) -> int:
    """Return how many rows of this size make a block; at least 1."""
    return max(1, BLOCK_SIZE // row_size)


def row_blocks(maps: Tensor, *companions: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield maps ``(B, C, H, W)`` in blocks ``(n, H * W)``, each with the n rows of every companion ``(B * C, ...)``.

    A block of maps that are not contiguous holds rows of one image.
    """
    channels, row_size = maps.shape[1], maps.shape[2] * maps.shape[3]
    step = rows_per_block(row_size)
    if maps.is_contiguous():
        groups: Iterable[tuple[Tensor, ...]] = [(maps.view(-1, row_size), *companions)]
    else:
        images = (image.reshape(-1, row_size) for image in maps)
        groups = zip(images, *(companion.split(channels) for companion in companions), strict=True)
    for group in groups:
        if group[0].shape[0] <= step:
            yield group
        else:
            yield from zip(*(tensor.split(step) for tensor in group), strict=True)
