"""The least and greatest values of maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgery.drawing import compiled_kernels
from surgery.drawing.host_copies import HostCopy
from surgery.drawing.row_blocks import row_blocks

if TYPE_CHECKING:
    from torch import Tensor


def find_extremes(maps: Tensor) -> Tensor:
    """Return ``(2, B, C)``: the least and the greatest value of each channel, in the dtype of the maps.

    Both are NaN if the channel contains a NaN.
    """
    if maps.device.type != "cpu":
        return torch.stack((maps.amin((2, 3)), maps.amax((2, 3))))
    extremes = maps.new_empty((2, maps.shape[0] * maps.shape[1]))
    kernels = compiled_kernels.kernels
    if compiled_kernels.can_use_kernels(maps) and kernels.find_extremes(maps.numpy(), extremes.numpy()):
        return extremes.view(2, *maps.shape[:2])
    for rows, least, greatest in row_blocks(maps, extremes[0], extremes[1]):
        torch.amin(rows, 1, out=least)
        torch.amax(rows, 1, out=greatest)
    return extremes.view(2, *maps.shape[:2])


def find_finite_extremes(maps: Tensor) -> Tensor:
    """Return ``(2, B, C)``: the least and the greatest finite value of each channel; inf and -inf if there are none."""
    is_finite = maps.isfinite()
    least = torch.where(is_finite, maps, torch.inf).amin((2, 3))
    return torch.stack((least, torch.where(is_finite, maps, -torch.inf).amax((2, 3))))


@dataclass(frozen=True, slots=True, eq=False)
class Extremes:
    """The extremes of a batch's maps, and which images contain values that are not finite."""

    raw: Tensor
    """``(2, B, C)``; NaN for a channel that contains a NaN."""
    finite: Tensor
    """``(2, B, C)`` of the finite values; inf and -inf for a channel without any."""
    nonfinite_images: Tensor | None
    """``(2, B)`` bool: whether an image contains a NaN, and whether it contains an infinity; None if no image does."""
    all_finite: bool | None
    """Whether all values are finite; None if the answer would have to wait for a device."""

    @classmethod
    def from_maps(cls, maps: Tensor) -> Extremes:
        """Return the extremes of ``(B, C, H, W)`` maps."""
        raw = find_extremes(maps)
        all_finite = bool(np.isfinite(raw.numpy()).all()) if maps.device.type == "cpu" else None
        if all_finite:
            return cls(raw, raw, None, all_finite)
        nonfinite = torch.stack((maps.isnan(), maps.isinf())).flatten(2).any(2)
        return cls(raw, find_finite_extremes(maps), nonfinite, all_finite)

    def including(self, other: Extremes) -> Extremes:
        """Return these extremes with another's finite ones added, for values that belong to no map."""
        nonfinite = self.nonfinite_images
        if other.nonfinite_images is not None:
            nonfinite = other.nonfinite_images if nonfinite is None else nonfinite | other.nonfinite_images
        finite = torch.cat((self.finite, other.finite), 2)
        return Extremes(self.raw, finite, nonfinite, self.all_finite and other.all_finite)

    def copy_to_host(self) -> HostExtremes:
        """Start to copy them to the host."""
        raw = HostCopy(self.raw)
        finite = raw if self.finite is self.raw else HostCopy(self.finite)
        return HostExtremes(raw, finite, None if self.nonfinite_images is None else HostCopy(self.nonfinite_images))


@dataclass(frozen=True, slots=True, eq=False)
class HostExtremes:
    """`Extremes` in the memory of the host, or on the way there."""

    raw: HostCopy
    finite: HostCopy
    nonfinite_images: HostCopy | None
