"""The pictures of a study: what an image was, and what each edit made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.studies.effects import Effect
    from surgery.studies.variants import Unit


@dataclass(frozen=True, slots=True, eq=False)
class UnitPicture:
    """What the edit of one unit did to one image."""

    unit: Unit
    effect: Effect
    output: Tensor
    """The output, ``(C, H, W)`` for an output of maps, on the CPU."""
    heat_map: Tensor | None
    """Where it differs from the original: the mean absolute difference over channels, float32 ``(H, W)``."""
    maps: Tensor | None = None
    """The channels themselves before the edit, ``(C, H, W)``, in a study of channels."""


@dataclass(frozen=True, slots=True, eq=False)
class ImagePictures:
    """The pictures of one image: its input, its original output, and what the edits did that changed it most."""

    name: str
    input: Tensor
    """``(C, H, W)`` for an image, on the CPU."""
    output: Tensor
    value_range: tuple[float, float] | None
    """Black and white of the output; None if it is no image."""
    units: tuple[UnitPicture, ...]
    """In the order of the study."""
    mask: Tensor | None = None
    """The region that was asked about, bool ``(H, W)``."""
