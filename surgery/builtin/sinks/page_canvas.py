"""A canvas for pages of many thumbnails and texts: places in one palette, and RGB only where that can't be."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from surgery.builtin.sinks.page_colors import PAPER_INDEX, RULE, PageColors, shade_places
from surgery.builtin.sinks.text_fitting import draw_text, font, text_width

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from surgery.builtin.sinks.page_colors import Color
    from surgery.builtin.sinks.thumbnails import Thumbnails
    from surgery.output import FileDigest


class PageCanvas:
    """A page of paper to draw on, in the colors of some palettes ``(256, 3)`` and of some images ``(H, W, 3)``.

    Colormaps are drawn in at least 100 of their 251 levels. Where images have too many colors for a palette, or where
    there are more than two palettes, the page is RGB, and these are drawn as they are.
    """

    def __init__(
        self,
        width: int,
        height: int,
        palettes: Sequence[NDArray[np.uint8]] = (),
        images: Sequence[NDArray[np.uint8]] = (),
    ) -> None:
        self._lines = np.full((height, 1 + width), PAPER_INDEX, np.uint8)
        self._lines[:, 0] = 0
        self._pixels = self._lines[:, 1:]
        self._palettes = [palette.tobytes() for palette in palettes]
        self._colors = PageColors.for_page(palettes, images)
        self._are_palettes_kept = len(self._colors.places) == len(palettes)
        self._patches: list[tuple[int, int, NDArray[np.uint8]]] = []
        """Left, top and pixels ``(H, W, 3)`` of what is drawn in colors that the palette does not have."""

    @property
    def width(self) -> int:
        """In pixels."""
        return int(self._pixels.shape[1])

    def write(
        self, text: str, x: int, y: int, size: int, color: Color, *, stroke: float = 0, anchor: str = "la"
    ) -> None:
        """Write a line of text. The anchor is Pillow's: ``la`` for the left end and the ascender, ``lm`` or ``rm``."""
        if not text:
            return
        places, top = _text_places(text, size, color, stroke)
        if anchor[0] == "r":
            x -= round(text_width(text, size))
        if anchor[1] == "m":
            y -= round(sum(font(size).getmetrics()) / 2)
        self._put(places, x - 1, y + top)

    def write_row(self, texts: Sequence[str], x: int, y: int, step: int, size: int, color: Color) -> None:
        """Write lines of text side by side on the paper, each `step` pixels right of the one before."""
        if texts:
            places, top = _row_places(tuple(texts), step, size, color)
            self._put(places, x - 1, y + top)

    def rule(self, left: int, top: int, right: int, thickness: int) -> None:
        """Draw a horizontal line."""
        self._pixels[top : top + thickness, left : right + 1] = shade_places(RULE)[255]

    def draw(self, thumbnails: Thumbnails, palette: NDArray[np.uint8] | None, x: int, y: int, step: int) -> None:
        """Draw thumbnails side by side, each `step` pixels right of the one before."""
        import torch

        from surgery.drawing import tile_codes
        from surgery.stages import TileLayout

        pixels = thumbnails.pixels
        if palette is None or pixels.ndim == 4:
            for image in pixels:
                self._put_image(image.repeat(thumbnails.factor, 0).repeat(thumbnails.factor, 1), x, y)
                x += step
            return
        if not self._are_palettes_kept:
            for codes in pixels:
                self._put_codes(codes.repeat(thumbnails.factor, 0).repeat(thumbnails.factor, 1), palette, x, y)
                x += step
            return
        count = len(pixels)
        layout = TileLayout(count, count, count, thumbnails.factor, step - thumbnails.width)
        places = np.take(self._colors.places[self._palettes.index(palette.tobytes())], pixels)  # faster than an index
        self._put(tile_codes(torch.from_numpy(places)[None], layout)[0, 0, :, 1:].numpy(), x, y)

    def image(self) -> Image.Image:
        """Return the page as an RGB image."""
        from PIL import Image

        lines, palette = self._finish()
        if palette is None:
            return Image.fromarray(lines[:, 1:].reshape(len(lines), -1, 3))
        image = Image.fromarray(np.ascontiguousarray(lines[:, 1:]))
        image.putpalette(palette.tobytes())
        return image.convert("RGB")

    def save(self, path: Path, text: dict[str, bytes]) -> FileDigest:
        """Write the page to a PNG file with texts. Raises OSError."""
        from surgery.drawing import save_lines

        return save_lines(path, *self._finish(), text, level=2)

    def _finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return lines of places and their palette, or of RGB."""
        from surgery.drawing import color_lines

        if not self._patches:
            return self._lines, self._colors.palette
        colored = color_lines(self._lines, self._colors.palette)
        for x, y, pixels in self._patches:
            height, width = pixels.shape[:2]
            colored[y : y + height, 1 + 3 * x : 1 + 3 * (x + width)] = pixels.reshape(height, -1)
        return colored, None

    def _put_image(self, image: NDArray[np.uint8], x: int, y: int) -> None:
        if self._colors.image_colors is not None:
            self._put(self._colors.places_of_image(image), x, y)
        else:
            self._patches.append((x, y, image))

    def _put_codes(self, codes: NDArray[np.uint8], palette: NDArray[np.uint8], x: int, y: int) -> None:
        if self._are_palettes_kept:
            self._put(self._colors.places[self._palettes.index(palette.tobytes())][codes], x, y)
        else:
            self._patches.append((x, y, palette[codes]))

    def _put(self, places: NDArray[np.uint8], x: int, y: int) -> None:
        """Draw places ``(H, W)``; what lies outside of the page is left out."""
        room = self._pixels[max(0, y) : y + len(places), max(0, x) : x + places.shape[1]]
        top, left = max(0, -y), max(0, -x)
        room[:] = places[top : top + room.shape[0], left : left + room.shape[1]]


@lru_cache(maxsize=1024)  # the pages of a run have the same rows
def _row_places(texts: tuple[str, ...], step: int, size: int, color: Color) -> tuple[NDArray[np.uint8], int]:
    drawn = [_text_places(text, size, color, 0) for text in texts]
    first = min(top for _, top in drawn)
    height = max(top + len(places) for places, top in drawn) - first
    row = np.full((height, step * len(texts)), PAPER_INDEX, np.uint8)
    for number, (places, top) in enumerate(drawn):
        left, width = number * step, min(step, places.shape[1])
        row[top - first : top - first + len(places), left : left + width] = places[:, :width]
    return row, first


@lru_cache(maxsize=4096)
def _text_places(text: str, size: int, color: Color, stroke: float) -> tuple[NDArray[np.uint8], int]:
    ink, top = draw_text(text, size, stroke)
    return shade_places(color)[ink], top
