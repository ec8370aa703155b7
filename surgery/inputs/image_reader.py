"""The reader of image files, with its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads an image file. A run reads it in the size, range and channels of its network.

    The values `black` and `white` of the file become the ends of the range. If `white` is None, it is 255 for 8 bits, 1
    for floats up to 1, and for 16 bits the greatest value of as many bits as the image needs. `indices` reads the
    indices of an image with a palette instead of its colors.

    For an input beside the image, such as a mask, set `channels` (None: 1 for a gray file, else 3) and the ends `low`
    and `high` of the range (None: those of the run).
    """

    black: float = 0.0
    white: float | None = None
    indices: bool = False
    channels: int | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.white is not None and not self.black < self.white:
            raise ImageError(f"black is less than white, not {self.black:g} and {self.white:g}")

    @property
    def decoding(self) -> dict[str, Any]:
        """The options of `load_image` that concern the values of the file."""
        return {"black": self.black, "white": self.white, "indices": self.indices}

    def __call__(self, path: Path, /) -> Tensor:
        from surgery.inputs.image_loading import load_image

        low = -1.0 if self.low is None else self.low
        high = 1.0 if self.high is None else self.high
        return load_image(path, channels=self.channels or 3, range=(low, high), **self.decoding)
