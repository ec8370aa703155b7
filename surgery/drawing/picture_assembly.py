"""Pictures from codes: tiled by the tiler, with their palette, and split if they are too large for viewers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from surgery.drawing.declared_attributes import declared_attribute
from surgery.drawing.palettes import SPECIAL_CODES, add_ink_color, recipe_palette
from surgery.drawing.picture_sizes import LABEL_HEIGHT, MAX_MEGAPIXELS, MAX_SIDE
from surgery.drawing.tiling import find_tile_layout, tile_codes
from surgery.drawing.transforms import codes_to_rgb, describe_type, is_color
from surgery.errors import RenderError
from surgery.plugins import describe_error
from surgery.text import describe_stage, format_count, sortable_number
from surgery.types import BACKGROUND, Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from surgery.drawing.quantized_maps import QuantizedMaps
    from surgery.stages import Recipe, TileLayout

    Limit = NDArray[np.float64]

_MAX_BATCH_CODES = 1 << 20
"""A batch of at most this many codes is tiled at once: its pictures stay in the cache until they are compressed."""


@dataclass(frozen=True, slots=True)
class _Tiles:
    """Tiled codes of a batch, ``(B, N, H', W')``, or of one image, ``(N, H', W')``."""

    codes: NDArray[np.uint8]
    are_scanlines: bool
    """Whether each line begins with a zero, as in a PNG file. Then W' is the width and 1."""

    def of_image(self, position: int) -> _Tiles:
        return _Tiles(self.codes[position], self.are_scanlines)


class PictureAssembler:
    """Makes the pictures of a batch's quantized maps."""

    def __init__(self, quantized: QuantizedMaps, recipe: Recipe) -> None:
        self._quantized = quantized
        self._recipe = recipe

    def pictures(self, position: int) -> tuple[Picture, ...]:
        """Return the pictures of one image."""
        low, high = (limit[position] for limit in self._quantized.limits())
        if is_color(self._recipe.transforms):
            colors = codes_to_rgb(self._quantized.codes_of_image(position), SPECIAL_CODES.values())
            return (Picture(colors, None, low, high),)
        parts = [self._split(picture) for picture in self._uncut_pictures(position, low, high)]
        if len(parts) == 1 or (self._layout is not None and hasattr(self._recipe.tiler, "megapixels")):
            return tuple(_number_parts([picture for pictures in parts for picture in pictures]))
        return tuple(
            picture
            for number, pictures in enumerate(parts)
            for picture in _number_parts(pictures, f"c{sortable_number(number)}-")
        )

    def _uncut_pictures(self, position: int, low: Limit, high: Limit) -> Iterator[Picture]:
        palette = recipe_palette(self._recipe)
        draw_labels = self._draw_labels
        if draw_labels is None:
            tiles = self._tiles_of_image(position)
        else:
            palette = add_ink_color(palette)
            tiles = _Tiles(draw_labels(self._codes_to_tile(position, position + 1), low, high)[0].numpy(), False)
        for number, codes in enumerate(tiles.codes):
            channels = self._channels(number, len(tiles.codes), len(low))
            own = slice(None) if channels is None else slice(channels[0], channels[1] + 1)
            pixels, scanlines = (codes[:, 1:], codes) if tiles.are_scanlines else (codes, None)
            tiles_of_picture = self._describe_tiles(number)
            yield Picture(pixels, palette, low[own], high[own], scanlines, channels, tiles=tiles_of_picture)

    @property
    def _draw_labels(self) -> Callable[..., Tensor] | None:
        """The tiler's method that tiles codes and labels them; None if it draws no labels."""
        tiler = self._recipe.tiler
        method: Any = declared_attribute(tiler, "draw_labels") if getattr(tiler, "labels", False) else None
        return method  # type: ignore[no-any-return]

    def _channels(self, number: int, pictures: int, channels: int) -> tuple[int, int] | None:
        """Return the first and the last channel in one of several pictures; None if this is unknown."""
        if pictures == 1:
            return None
        layout = self._layout
        if layout is not None:
            first = number * layout.tiles
            return first, min(first + layout.tiles, layout.maps, channels) - 1
        return (number, number) if pictures == channels else None

    def _describe_tiles(self, number: int) -> Mapping[str, int] | None:
        """Return where the maps of one picture are; None if this is unknown."""
        layout = self._layout
        if layout is None:
            return None
        height, width = self._tiled_shape[2:]
        return {
            "maps": min(layout.tiles, layout.maps - number * layout.tiles),
            "height": height,
            "width": width,
            "columns": layout.columns,
            "factor": layout.factor,
            "gap": layout.gap,
            "top": LABEL_HEIGHT if self._draw_labels is not None else 0,
        }

    @cached_property
    def _layout(self) -> TileLayout | None:
        """How the tiler places maps; None if it does not tell."""
        layout = self._quantized.layout or find_tile_layout(self._recipe.tiler, self._tiled_shape)
        plan = declared_attribute(self._recipe.tiler, "plan")
        return plan(*self._tiled_shape[1:]) if layout is None and callable(plan) else layout

    @property
    def _tiled_shape(self) -> torch.Size:
        """The shape of the maps that the tiler gets, ``(B, C, H, W)``: vectors are folded."""
        shape = self._quantized.shape
        return torch.Size((*shape[:2], *folded_size(shape[3]))) if self._quantized.are_vectors else shape

    def _split(self, picture: Picture) -> list[Picture]:
        """Return a picture in parts that viewers can open, from the top left, row by row."""
        height, width = picture.pixels.shape[:2]
        max_pixels = int(getattr(self._recipe.tiler, "megapixels", MAX_MEGAPIXELS)) * 1_000_000
        if max(height, width) <= MAX_SIDE and height * width <= max_pixels:
            return [picture]
        part_width = min(width, MAX_SIDE)
        part_height = max(1, min(MAX_SIDE, max_pixels // part_width))
        return [
            replace(
                picture,
                pixels=picture.pixels[top : top + part_height, left : left + part_width],
                scanlines=None,
                tiles=None,
            )
            for top in range(0, height, part_height)
            for left in range(0, width, part_width)
        ]

    def _tiles_of_image(self, position: int) -> _Tiles:
        quantized = self._quantized
        if quantized.layout is not None:
            return _Tiles(quantized.numpy()[position], are_scanlines=True)
        if quantized.nbytes <= _MAX_BATCH_CODES:
            return self._tiles_of_batch.of_image(position)
        return self._tile(self._codes_to_tile(position, position + 1)).of_image(0)

    @cached_property
    def _tiles_of_batch(self) -> _Tiles:
        return self._tile(self._codes_to_tile(None, None))

    def _codes_to_tile(self, start: int | None, stop: int | None) -> Tensor:
        """Return the codes ``(B, C, H, W)`` of some images, with vectors folded."""
        codes = torch.from_numpy(self._quantized.numpy()[start:stop])
        return fold_vectors(codes) if self._quantized.are_vectors else codes

    def _tile(self, codes: Tensor) -> _Tiles:
        """Return the tiles of ``(B, C, H, W)`` codes. Raises RenderError if the tiler does not return pictures."""
        tiler = self._recipe.tiler
        layout = find_tile_layout(tiler, codes.shape)
        try:
            tiles = tiler(codes) if layout is None else tile_codes(codes, layout)
        except Exception as error:
            raise RenderError(
                f"tiler {describe_stage(tiler)} can't lay out {tuple(codes.shape)}: {describe_error(error)}"
            ) from error
        if not isinstance(tiles, torch.Tensor) or tiles.dtype != torch.uint8 or tiles.ndim != 4:
            raise RenderError(
                f"tiler {describe_stage(tiler)} has to return (B, N, H, W) uint8, not {describe_type(tiles)}"
            )
        if tiles.shape[0] != codes.shape[0]:
            raise RenderError(
                f"tiler {describe_stage(tiler)} returned pictures of {format_count(tiles.shape[0], 'image')} "
                f"for a batch of {codes.shape[0]}"
            )
        return _Tiles(tiles.numpy(), are_scanlines=layout is not None)


def _number_parts(parts: list[Picture], prefix: str = "") -> list[Picture]:
    """Return the parts of one picture with their numbers and labels; a single part as it is."""
    if len(parts) == 1:
        return parts
    digits = len(str(len(parts)))
    return [
        replace(picture, part=(number, len(parts)), label=f"{prefix}part{number:0{digits}}")
        for number, picture in enumerate(parts, 1)
    ]


def fold_vectors(codes: Tensor) -> Tensor:
    """Return vectors ``(B, C, 1, W)`` as near-square maps. The rest of the last row is background."""
    width = codes.shape[-1]
    rows, columns = folded_size(width)
    filled = torch.nn.functional.pad(codes, (0, rows * columns - width), value=BACKGROUND)
    return filled.reshape(*codes.shape[:2], rows, columns)


def folded_size(width: int) -> tuple[int, int]:
    """Return the height and width of the near-square map that a vector becomes."""
    columns = math.ceil(math.sqrt(width))
    divisors = [count for count in range(columns, 2 * columns + 1) if width % count == 0]
    columns = divisors[0] if divisors else columns
    return math.ceil(width / columns), columns
