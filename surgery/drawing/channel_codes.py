"""The codes of some channels of an activation, read without those of all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from surgery.types import Activation


@dataclass(frozen=True, slots=True, eq=False)
class ChannelCodes:
    """The codes of an activation's maps."""

    count: int
    """The number of maps; 0 for an activation without values."""
    palette: NDArray[np.uint8] | None
    """``(256, 3)`` RGB; None if the pictures have colors of their own."""
    read: Callable[[Sequence[int] | None], NDArray[np.uint8]]
    """Takes channels, or None for all; returns their codes ``(N, H, W)``."""


def read_channel_codes(activation: Activation) -> ChannelCodes:
    """Return the codes of an activation's maps, of which nothing is computed before it is read."""
    of_image = getattr(activation.drawing, "channel_codes", None)
    if of_image is not None:
        codes: ChannelCodes = of_image(activation.position)
        return codes
    levels, pictures = activation.levels, activation.pictures

    def read(channels: Sequence[int] | None) -> NDArray[np.uint8]:
        return levels.codes if channels is None else levels.codes[list(channels)]

    return ChannelCodes(len(levels.codes) if pictures else 0, pictures[0].palette if pictures else None, read)
