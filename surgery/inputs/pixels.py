"""Decoded pixels, and which values of a file become black and white."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from surgery.errors import ImageError
from surgery.inputs.notes import add_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

_BIT_DEPTHS = (8, 10, 12, 14, 16)
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """Which values of a file are black and white. This matters for more than 8 bits per channel and for palettes."""

    black: float = 0.0
    white: float | None = None
    """None: 255 for 8 bits, 1 for floats up to 1, else the greatest value of as many bits as the image uses."""
    indices: bool = False
    """Whether to read the indices of an image with a palette instead of its colors."""

    def __post_init__(self) -> None:
        if self.white is not None and not self.black < self.white:
            raise ImageError(f"black is less than white, not {self.black:g} and {self.white:g}")


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """A decoded image.

    `parts` is one Pillow image of 8 bits (mode RGB or L), or one of mode F, from 0 to 1, for each channel.
    """

    parts: tuple[Image.Image, ...]

    @property
    def width(self) -> int:
        return self.parts[0].width

    @property
    def height(self) -> int:
        return self.parts[0].height

    def crop(self, box: tuple[int, int, int, int]) -> Pixels:
        """Return the pixels in a box: left, top, right, bottom."""
        return self.map(lambda part: part.crop(box))

    def map(self, change: Callable[[Image.Image], Image.Image]) -> Pixels:
        """Return the image with `change`, such as a resize, applied to each of its parts."""
        return Pixels(tuple(change(part) for part in self.parts))

    def to_array(self) -> NDArray[Any]:
        """Return ``(H, W, C)``: uint8, or float32 from 0 to 1."""
        arrays = [np.atleast_3d(np.array(part)) for part in self.parts]
        values = np.concatenate(arrays, -1)
        return values if values.dtype == np.uint8 else values.clip(0, 1)


def scale_to_pixels(values: NDArray[Any], path: Path, channels: int, options: DecodingOptions) -> Pixels:
    """Return values ``(H, W, 1 or 3)`` of any range as pixels in 1 or 3 channels, scaled from black to white.

    NaN becomes black, and values outside of black and white are clipped. Raises ImageError where white can't be
    determined.
    """
    black = options.black
    white = options.white if options.white is not None else _detect_white(values, path, black)
    finite = np.nan_to_num(values, nan=black, posinf=white, neginf=black)
    if finite.size and (finite.min() < black or finite.max() > white):
        add_note(path, f"values below {black:g} are black, and values above {white:g} white", doubtful=False)
    if channels == 1 and finite.shape[2] == 3:
        finite = (finite @ np.array(_LUMA))[..., None]
    elif channels == 3 and finite.shape[2] == 1:
        finite = finite.repeat(3, 2)
    if (black, white) == (0, 255) and finite.dtype.kind in "iu":
        finite = finite.clip(0, 255).astype(np.uint8)
        return Pixels((Image.fromarray(finite if channels == 3 else finite[..., 0]),))
    unit = ((finite.astype(np.float64) - black) / (white - black)).clip(0, 1).astype(np.float32)
    return Pixels(tuple(Image.fromarray(np.ascontiguousarray(unit[..., channel])) for channel in range(channels)))


def _detect_white(values: NDArray[Any], path: Path, black: float) -> float:
    """Return the value that is white, if the user does not set it. Raises ImageError if it is unclear."""
    if values.dtype == np.uint8:
        return 255
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if finite.size < values.size:
        add_note(path, "NaN is read as black, infinite values as black or white", doubtful=True)
    least, greatest = (finite.min().item(), finite.max().item()) if finite.size else (0, 0)
    if least < 0 or greatest > 65535 or (values.dtype.kind == "f" and greatest > 255):
        raise ImageError(
            f"{path} holds values from {least:g} to {greatest:g}, so black and white are unknown; "
            f"set them: --reader image:black={least:g},white={greatest:g} (black={least:g}, white={greatest:g} in "
            "Python)"
        )
    if values.dtype.kind == "f":
        if greatest <= 1:
            return 1
        add_note(path, "there are floats above 1, so 255 is white; --reader image:white=N changes it", doubtful=True)
        return 255
    bits = next(bits for bits in _BIT_DEPTHS if greatest < 2**bits)
    if bits < 16:
        text = f"no 16-bit value is above {2**bits - 1}, so that is white; --reader image:white=65535 changes it"
        add_note(path, f"{text} (white=65535 in Python)", doubtful=True)
    return max(float(2**bits - 1), black + 1)
