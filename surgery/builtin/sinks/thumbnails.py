"""Thumbnails: pictures that fit into a place, enlarged by whole factors or reduced by averaging areas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

GUTTER = 10
"""Pixels between two thumbnails."""


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnails:
    """Thumbnails of the same size, which are shown side by side."""

    pixels: NDArray[np.uint8]
    """``(N, H, W)`` codes, or ``(N, H, W, 3)`` RGB, before they are enlarged."""
    factor: int = 1
    """Each pixel is shown as factor x factor pixels."""

    @classmethod
    def of_codes(cls, codes: NDArray[np.uint8], size: int, columns: int = 1, rows: int = 1) -> Self:
        """Return codes ``(N, H, W)`` as thumbnails that fit into the places of ``columns x rows`` of them each.

        Codes are reduced by averaging areas. An area with a special code, such as that of NaN, gets this code.
        """
        height, width = codes.shape[1:]
        width, height, factor = fit_size(width, height, size, columns, rows)
        return cls(codes if factor else _reduce(codes, width, height), factor or 1)

    @classmethod
    def of_images(cls, images: list[Image.Image]) -> Self:
        """Return RGB images of one size, which fit already."""
        import numpy as np

        return cls(np.stack([np.asarray(image) for image in images]))

    @property
    def height(self) -> int:
        """The height of each, in pixels as shown."""
        return int(self.pixels.shape[1]) * self.factor

    @property
    def width(self) -> int:
        """The width of each, in pixels as shown."""
        return int(self.pixels.shape[2]) * self.factor


def fit_size(width: int, height: int, size: int, columns: int = 1, rows: int = 1) -> tuple[int, int, int]:
    """Return width, height and factor of a picture in the place of ``columns x rows`` thumbnails.

    If it is enlarged, by the factor, width and height are those before. If it is reduced, the factor is 0.
    """
    room = size * columns + GUTTER * (columns - 1)
    factor = min(room / width, size * rows / height)
    if factor >= 1:
        return width, height, int(factor)
    return max(1, round(width * factor)), max(1, round(height * factor)), 0


def fit_thumbnail(image: Image.Image, size: int, columns: int = 1, rows: int = 1) -> Image.Image:
    """Return an image that fits into the place of ``columns x rows`` thumbnails.

    It is enlarged by a whole factor without smoothing, or reduced by averaging areas.
    """
    from PIL import Image

    width, height, factor = fit_size(*image.size, size, columns, rows)
    if factor:
        return image.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    return image.resize((width, height), Image.Resampling.BOX)


def apply_palette(codes: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """Return codes ``(H, W)`` as an RGB image in the colors of a palette ``(256, 3)``."""
    from PIL import Image

    image = Image.fromarray(codes)
    image.putpalette(palette.tobytes())
    return image.convert("RGB")  # a tenth of the time of indexing the palette with the codes


def _reduce(codes: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Return codes ``(N, H, W)`` as ``(N, height, width)``."""
    import numpy as np

    from surgery.types import LEVELS

    if codes.max() < LEVELS:
        return _average(codes, width, height)
    special = codes >= LEVELS
    reduced = _average(np.where(special, LEVELS // 2, codes).astype(np.uint8), width, height)
    for code in np.unique(codes[special])[::-1]:  # that of NaN last, so that it is shown before the others
        map_, y, x = np.nonzero(codes == code)
        row, column = (2 * y + 1) * height // (2 * codes.shape[1]), (2 * x + 1) * width // (2 * codes.shape[2])
        reduced[map_, row, column] = code
    return reduced


def _average(codes: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    count, down, across = len(codes), codes.shape[1] // height, codes.shape[2] // width
    if codes.shape[1:] == (height * down, width * across):  # all at once
        column = Image.fromarray(codes.reshape(count * codes.shape[1], codes.shape[2]))
        return np.array(column.reduce((across, down))).reshape(count, height, width)
    images = [Image.fromarray(each).resize((width, height), Image.Resampling.BOX) for each in codes]
    return np.stack([np.asarray(image) for image in images])
