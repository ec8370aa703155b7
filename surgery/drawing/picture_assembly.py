"""From codes to pictures: laid out by the tiler, given their palette, and cut where they are too large to be opened."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from surgery.drawing.palettes import SPECIAL_CODES, add_ink_color, palette_of
from surgery.drawing.picture_sizes import MAX_MEGAPIXELS, MAX_SIDE
from surgery.drawing.tiling import find_tile_layout, tile_codes
from surgery.drawing.transforms import codes_to_rgb, is_color
from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.stages import declared_attribute
from surgery.text import describe_stage, sortable_number
from surgery.types import BACKGROUND, Picture

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.drawing.quantized_maps import QuantizedMaps
    from surgery.stages import Recipe, TileLayout

_FEW = 1 << 20
"""Codes of a batch that are laid out at once: with their pictures, they stay in the cache until they are packed."""


class PictureAssembler:
    """The pictures of a batch's codes."""

    def __init__(self, codes: QuantizedMaps, recipe: Recipe) -> None:
        self.codes = codes
        self.recipe = recipe

    def pictures(self, position: int) -> tuple[Picture, ...]:
        """Those of one image."""
        codes = self.codes
        low, high = (limit[position] for limit in codes.limits())
        if is_color(self.recipe.transforms):
            return (Picture(codes_to_rgb(codes.indices(position), SPECIAL_CODES.values()), None, low, high),)
        label = (
            declared_attribute(self.recipe.tiler, "draw_labels")
            if getattr(self.recipe.tiler, "labels", False)
            else None
        )
        if label is not None:
            lying = torch.from_numpy(codes.numpy()[position : position + 1])
            laid, ready = label(fold_rows(lying) if codes.folded else lying, low, high)[0].numpy(), False
        elif codes.layout is not None:
            laid, ready = codes.numpy()[position], True
        elif codes.nbytes <= _FEW:
            laid, ready = self._tiles[0][position], self._tiles[1]
        else:
            tiles, ready = self._tile(codes.numpy()[position : position + 1])
            laid = tiles[0]
        colors = palette_of(self.recipe) if label is None else add_ink_color(palette_of(self.recipe))
        found: list[list[Picture]] = []
        for number, tile in enumerate(laid):
            channels = self._channels(number, len(laid), len(low))
            own = slice(None) if channels is None else slice(channels[0], channels[1] + 1)
            pixels = tile[:, 1:] if ready else tile
            picture = Picture(pixels, colors, low[own], high[own], tile if ready else None, channels)
            found.append(self._split(picture))
        if len(found) == 1 or (self._layout is not None and hasattr(self.recipe.tiler, "megapixels")):
            return tuple(_numbered([part for parts in found for part in parts]))
        return tuple(
            part for number, parts in enumerate(found) for part in _numbered(parts, f"c{sortable_number(number)}-")
        )

    def _channels(self, number: int, pictures: int, channels: int) -> tuple[int, int] | None:
        """The first and the last channel in one of several pictures, where that is known."""
        if pictures == 1:
            return None
        layout = self._layout
        if layout is not None:
            first = number * layout.tiles
            return first, min(first + layout.tiles, layout.maps, channels) - 1
        return (number, number) if pictures == channels else None

    @cached_property
    def _layout(self) -> TileLayout | None:
        """How the tiler lays the codes, if it says so."""
        plan = declared_attribute(self.recipe.tiler, "plan")
        found = self.codes.layout or find_tile_layout(self.recipe.tiler, self.codes.shape)
        return plan(*self.codes.shape[1:]) if found is None and callable(plan) else found

    def _split(self, picture: Picture) -> list[Picture]:
        """A picture that is too large to be opened in parts from the top left, line by line; else itself."""
        height, width = picture.pixels.shape[:2]
        most = int(getattr(self.recipe.tiler, "megapixels", MAX_MEGAPIXELS)) * 1_000_000
        if max(height, width) <= MAX_SIDE and height * width <= most:
            return [picture]
        across = min(width, MAX_SIDE)
        down = max(1, min(MAX_SIDE, most // across))
        return [
            replace(picture, pixels=picture.pixels[top : top + down, left : left + across], scanlines=None)
            for top in range(0, height, down)
            for left in range(0, width, across)
        ]

    @cached_property
    def _tiles(self) -> tuple[NDArray[np.uint8], bool]:
        """All pictures at once, where they are small."""
        return self._tile(self.codes.numpy())

    def _tile(self, indices: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], bool]:
        """``(B, C, H, W)`` codes -> ``(B, N, H', W')``, the pictures of each image.

        Or ``(B, N, H', 1 + W')`` and True: with a zero before each line, as PNG files have them.
        """
        codes = torch.from_numpy(indices)
        if self.codes.folded:
            codes = fold_rows(codes)
        tiler = self.recipe.tiler
        layout = find_tile_layout(tiler, codes.shape)
        try:
            tiles = tiler(codes) if layout is None else tile_codes(codes, layout)
        except Exception as error:
            said = f"tiler {describe_stage(tiler)} can't lay out {tuple(codes.shape)}: {describe_error(error)}"
            raise RenderError(said) from error
        if not isinstance(tiles, torch.Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            raise RenderError(f"tiler {describe_stage(tiler)} has to give (B, N, H, W) uint8, not {_shown(tiles)}")
        if tiles.shape[0] != codes.shape[0]:
            given = f"gave pictures of {tiles.shape[0]} images for a batch of {codes.shape[0]}"
            raise RenderError(f"tiler {describe_stage(tiler)} {given}")
        return tiles.numpy(), layout is not None


def _numbered(parts: list[Picture], lead: str = "") -> list[Picture]:
    """Parts of what would be one picture, each with its number."""
    if len(parts) == 1:
        return parts
    digits = len(str(len(parts)))
    return [
        replace(picture, part=(number, len(parts)), label=f"{lead}part{number:0{digits}}")
        for number, picture in enumerate(parts, 1)
    ]


def fold_rows(codes: Tensor) -> Tensor:
    """Rows ``(B, C, 1, W)`` folded to near-square pictures, the rest of the last line filled with background."""
    width = codes.shape[-1]
    columns = math.ceil(math.sqrt(width))
    even = [count for count in range(columns, 2 * columns + 1) if width % count == 0]
    columns = even[0] if even else columns
    rows = math.ceil(width / columns)
    filled = torch.nn.functional.pad(codes, (0, rows * columns - width), value=BACKGROUND)
    return filled.reshape(*codes.shape[:2], rows, columns)


def _shown(value: object) -> str:
    return f"{tuple(value.shape)} {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
