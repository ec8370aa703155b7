"""The reader of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import ImageError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageReader:
    """An image. A run has it read in the size, the range and the channels that its network takes.

    The values `black` and `white` of the file become the two ends of the range; `white` None is 255 for 8 bits, 1 for
    floats up to 1, and of 16 bits the greatest value of as many bits as the image needs. `indices` reads the indices of
    an image with a palette in place of its colors. For an input beside the image, such as a mask, `channels` (None: 1
    for a gray file, else 3) and the ends `low` and `high` of the range (None: those of the run) can be set too.
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

    def __call__(self, path: Path, /) -> Tensor:
        from surgery.inputs.image_loading import load_image

        low = -1.0 if self.low is None else self.low
        high = 1.0 if self.high is None else self.high
        depth: dict[str, Any] = {"black": self.black, "white": self.white, "indices": self.indices}
        return load_image(path, channels=self.channels or 3, range=(low, high), **depth)
