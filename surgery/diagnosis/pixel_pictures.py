"""Pictures of receptive fields over the image: what can reach the pixel has an outline, what does reach it glows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import make_image_activations, make_palette
from surgery.graph import tensor_specs
from surgery.studies import draw_output
from surgery.types import LEVELS, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from surgery.diagnosis.pixel_fields import PixelField
    from surgery.stages import Limits

COLORS = "inferno"
"""The colormap of gradients."""
_OUTLINE, _MARK = (0, 220, 255), (60, 255, 90)
_DIMMED = 0.5
"""The brightness of the image below a field."""
_DECADES = 3
"""The powers of ten between the darkest and the brightest gradient."""


def draw_input(image: Tensor, limits: Limits) -> list[Image.Image]:
    """Return an input ``(C, H, W)`` as one image in its own colors, or as two if its channels are those of two.

    Of any other number of channels, the mean is drawn.
    """
    count = 2 if len(image) in (2, 6) else 1
    if len(image) // count not in (1, 3):
        return [draw_output(image, None)]
    drawn = Operation("input", "input", "input", 0, tensors=tensor_specs(image[None]))
    (activation,) = make_image_activations(drawn, image[None], ["input"], limits, DEFAULT_RECIPE)
    picture = activation.pictures[0].image().convert("RGB")
    width, height = picture.width // count, picture.height
    return [picture.crop((place * width, 0, (place + 1) * width, height)) for place in range(count)]


def draw_field(field: PixelField, images: Sequence[Image.Image], side: int) -> list[Image.Image]:
    """Return a picture of a field over each of some images, each at least `side` pixels high and wide.

    The color of a position is by the logarithm
    of its gradient, from a thousandth of the largest one, so that the faint tail can be seen.
    """
    from PIL import Image

    width, height = scaled_size(*images[0].size, side)
    heat = _spread(_heat(field), height, width)[..., None]
    colors = make_palette(COLORS)[np.rint(heat[..., 0] * (LEVELS - 1)).astype(np.int64)]
    reach = np.zeros(field.size, bool) if field.reach is None else field.reach.numpy()
    edge = find_edge(_spread(reach, height, width))
    drawn = []
    for image in images:
        gray = np.asarray(image.convert("L").resize((width, height)).convert("RGB"), np.float64)
        pixels = gray * _DIMMED * (1 - heat) + colors * heat
        pixels[edge] = _OUTLINE
        _mark(pixels, *(place / length for place, length in zip(field.center, field.image_size, strict=True)))
        drawn.append(Image.fromarray(np.rint(pixels).astype(np.uint8)))
    return drawn


def draw_marked(output: Tensor, limits: Limits, pixel: tuple[int, int], side: int) -> Image.Image:
    """Return an output ``(..., H, W)`` with the pixel marked, scaled as by `draw_field`.

    It has colors if it is an image with single values for black and white; otherwise it is the mean of its channels.
    """
    from PIL import Image

    maps = output.flatten(0, -3)
    low, high = limits
    is_image = len(maps) == 3 and isinstance(low, (int, float)) and isinstance(high, (int, float))
    picture = draw_output(maps, (float(low), float(high)) if is_image else None)  # type: ignore[arg-type]
    size = scaled_size(picture.width, picture.height, side)
    pixels = np.array(picture.resize(size, Image.Resampling.NEAREST), np.float64)
    _mark(pixels, *((place + 0.5) / length for place, length in zip(pixel, maps.shape[-2:], strict=True)))
    return Image.fromarray(pixels.astype(np.uint8))


def find_edge(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the positions of a region ``(H, W)`` that touch a position outside of it, or the border."""
    padded = np.pad(region, 1, constant_values=False)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = region & ~inner
    return edge


def scaled_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height times the same whole number, so that the shorter side has at least `side` pixels."""
    factor = max(1, -(-side // max(1, min(width, height))))
    return width * factor, height * factor


def _heat(field: PixelField) -> NDArray[np.float64]:
    """Return the brightness of each position, 0 to 1: the logarithm of its gradient, over `_DECADES`."""
    if not 0 < field.total < float("inf") or field.gradient is None:
        return np.zeros(field.size)
    shares = field.gradient.numpy() / float(field.gradient.max())
    heat: NDArray[np.float64] = 1 + np.log10(shares.clip(10.0**-_DECADES)) / _DECADES
    return heat


def _spread(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Return values ``(h, w)`` spread over `height` and `width` pixels: each pixel has the value that is under it."""
    rows = (np.arange(height) * 2 + 1) * values.shape[0] // (2 * height)
    columns = (np.arange(width) * 2 + 1) * values.shape[1] // (2 * width)
    spread: NDArray[Any] = values[rows[:, None], columns[None]]
    return spread


def _mark(pixels: NDArray[np.float64], row: float, column: float) -> None:
    """Draw the ends of a cross around a place, which is given in shares of the picture."""
    height, width = pixels.shape[:2]
    y, x = min(int(row * height), height - 1), min(int(column * width), width - 1)
    thin = min(height, width) // 200
    start, end = (max(2, min(height, width) // part) for part in (18, 11))
    across = slice(max(0, y - thin), y + thin + 1), slice(max(0, x - thin), x + thin + 1)
    for offset in (*range(-end, -start), *range(start + 1, end + 1)):
        if 0 <= y + offset < height:
            pixels[y + offset, across[1]] = _MARK
        if 0 <= x + offset < width:
            pixels[across[0], x + offset] = _MARK
