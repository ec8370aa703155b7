"""The colors of a page as one palette of 256: paper, texts, colormaps, and what images need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgery.types import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Color = tuple[int, int, int]

PAPER, INK, GRAY, RULE, WARNING = (250, 250, 248), (28, 30, 36), (120, 124, 134), (222, 222, 218), (190, 60, 20)
"""Colors."""
PAPER_INDEX = 255
"""Of the paper in the palette; the tiles of thumbnails leave it between them."""
_SHADES: dict[Color, int] = {INK: 15, GRAY: 11, WARNING: 7, RULE: 1}
"""How many shades of a color, from nearly paper to the color itself, smooth the edges of its letters."""
_FIRST = sum(_SHADES.values())
_SPECIAL = 256 - LEVELS
_FEWEST_LEVELS = 100
"""With as many levels of a colormap, neighboring colors can't be told from each other."""


@dataclass(frozen=True, slots=True, eq=False)
class PageColors:
    """The palette of a page, and the places of colors in it."""

    palette: NDArray[np.uint8]
    """``(256, 3)`` RGB."""
    places: Sequence[NDArray[np.uint8]]
    """For each colormap ``(256,)``: the place in the palette of each code's color. Empty if they have no room."""
    image_colors: NDArray[np.uint32] | None
    """The colors of images, packed and sorted. They have the last places before the paper's, or, if None, no places."""

    @classmethod
    def for_page(cls, palettes: Sequence[NDArray[np.uint8]], images: Sequence[NDArray[np.uint8]]) -> PageColors:
        """Return the colors of a page with colormaps ``(256, 3)`` and images ``(H, W, 3)``.

        Images have no places if they have too many colors, and colormaps have none if there are more than two.
        """
        room = PAPER_INDEX - _FIRST - _SPECIAL * len(palettes)
        if len(palettes) * _FEWEST_LEVELS > room:
            return cls.for_page((), images)
        image_colors = _distinct_colors(images, room - len(palettes) * _FEWEST_LEVELS)
        levels = room - (0 if image_colors is None else len(image_colors))
        levels = min(LEVELS, levels // max(1, len(palettes)))
        palette = np.zeros((256, 3), np.uint8)
        palette[:_FIRST] = np.concatenate([_shades(color) for color in _SHADES])
        palette[PAPER_INDEX] = PAPER
        places, first = [], _FIRST
        for colors in palettes:
            codes = np.arange(LEVELS)
            place = np.empty(256, np.uint8)
            place[:LEVELS] = first + np.rint(codes * ((levels - 1) / (LEVELS - 1)))
            place[LEVELS:] = first + levels + np.arange(_SPECIAL)
            palette[first : first + levels] = colors[np.rint(np.linspace(0, LEVELS - 1, levels)).astype(int)]
            palette[first + levels : first + levels + _SPECIAL] = colors[LEVELS:]
            places.append(place)
            first += levels + _SPECIAL
        if image_colors is not None:
            palette[PAPER_INDEX - len(image_colors) : PAPER_INDEX] = _unpack(image_colors)
        return cls(palette, places, image_colors)

    def places_of_image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return an image ``(H, W, 3)``, whose colors have places, as ``(H, W)`` places."""
        assert self.image_colors is not None  # noqa: S101 - the caller knows
        number = np.searchsorted(self.image_colors, _pack(image))
        return (PAPER_INDEX - len(self.image_colors) + number).astype(np.uint8)


def shade_places(color: Color) -> NDArray[np.uint8]:
    """Return ``(256,)`` places: of paper that is covered by 0 to 255 parts of ink of a color."""
    shades = _SHADES[color]
    first = sum(count for other, count in list(_SHADES.items())[: list(_SHADES).index(color)])
    number = np.rint(np.arange(256) * (shades / 255)).astype(int)
    return np.where(number == 0, PAPER_INDEX, first + number - 1).astype(np.uint8)


def _shades(color: Color) -> NDArray[np.uint8]:
    share = np.arange(1, _SHADES[color] + 1)[:, None] / _SHADES[color]
    return np.rint(np.array(PAPER) * (1 - share) + np.array(color) * share).astype(np.uint8)


def _distinct_colors(images: Sequence[NDArray[np.uint8]], most: int) -> NDArray[np.uint32] | None:
    """Return the colors of all images; None if there are more than `most`."""
    from PIL import Image

    found: set[tuple[int, ...]] = set()
    for image in images:
        counted = Image.fromarray(image).getcolors(most)  # stops at the first color too many
        if counted is None:
            return None
        found |= {color for _, color in counted}  # type: ignore[misc]
    if len(found) > most:
        return None
    return np.unique(_pack(np.array(sorted(found), np.uint8).reshape(-1, 3)))


def _pack(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return np.asarray((red << 16) | (green << 8) | blue, np.uint32)


def _unpack(packed: NDArray[np.uint32]) -> NDArray[np.uint8]:
    return np.stack([packed >> 16, packed >> 8, packed], -1).astype(np.uint8)
