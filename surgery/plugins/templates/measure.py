from dataclasses import dataclass
from typing import ClassVar

import surgery


@dataclass(frozen=True)
class Ember:
    """The share of values above a share of the greatest of their channel."""

    share: float = 0.5
    unit: ClassVar[str] = "share"
    reading: ClassVar[str] = "near 0, a few places stand out; near 1, all values are alike"

    def __call__(self, maps):  # (B, C, H, W) floats, with NaN and infinities; don't write to it
        greatest = maps.amax((2, 3), keepdim=True)
        return (maps >= self.share * greatest).double().mean((2, 3))  # (B, C) float64; NaN for no number


@surgery.hookimpl
def surgery_measures():
    return {"ember": Ember()}
