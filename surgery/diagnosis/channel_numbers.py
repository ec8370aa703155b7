"""Numbers of the channels of one operation, gathered image by image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from surgery.types import Operation

Numbers = NDArray[np.float64]

LEAST_POSITIONS = 16
"""Maps of fewer positions are not compared between images: so few values are alike by chance."""


class MeanNumbers:
    """The mean over images of a number for each channel."""

    def __init__(self) -> None:
        self._total: Numbers = np.zeros(0)
        self._count: NDArray[np.int64] = np.zeros(0, np.int64)

    def add(self, numbers: Numbers) -> None:
        """Add the numbers ``(C,)`` of an image. NaN stands for none; another C than before is left out."""
        if not self._total.size:
            self._total, self._count = np.zeros(numbers.size), np.zeros(numbers.size, np.int64)
        if numbers.size == self._total.size:
            known = ~np.isnan(numbers)
            self._total += np.where(known, numbers, 0)
            self._count += known

    def numbers(self) -> Numbers:
        """Return the mean of each channel ``(C,)``; NaN for a channel without numbers."""
        return np.where(self._count > 0, self._total / np.maximum(self._count, 1), np.nan)


class Similarity:
    """The mean correlation of a channel's maps between each two of the images.

    Of n maps with mean 0 and norm 1, the mean of all correlations is ``(|sum|^2 - n) / (n (n - 1))``: one sum of maps
    is enough for any number of images.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._count: Tensor
        self.images = 0

    def add(self, maps: Tensor) -> None:
        """Add the maps ``(C, H, W)`` of an image. Maps of another size than the first ones are left out."""
        if maps.shape[1] * maps.shape[2] < LEAST_POSITIONS:
            return
        flat = maps.flatten(1).double()
        flat = flat - flat.mean(1, keepdim=True)
        norm = flat.norm(dim=1, keepdim=True)
        rounding = 4 * torch.finfo(maps.dtype).eps * maps.flatten(1).abs().amax(1, keepdim=True).double()
        known = norm.isfinite() & (norm > rounding * maps[0].numel() ** 0.5)
        unit = (flat / norm).where(known, 0.0).float().reshape(maps.shape)
        if self._sum is None:
            self._sum, self._count = torch.zeros_like(unit), torch.zeros(len(unit), device=unit.device)
        if self._sum.shape == unit.shape:
            self._sum += unit
            self._count += known[:, 0]
            self.images += 1

    def numbers(self) -> Numbers | None:
        """Return the mean correlation of each channel ``(C,)``; NaN for one that is constant in fewer than two images.

        None if there are fewer than two images of one size.
        """
        if self._sum is None or self.images < 2:
            return None
        count = self._count.double()
        pairs = (self._sum.double().square().sum((1, 2)) - count) / (count * (count - 1))
        numbers: Numbers = pairs.where(count >= 2, torch.nan).cpu().numpy()
        return numbers


class Noise:
    """The share of a channel's variance over positions and images that random numbers make.

    It is half of the mean squared difference of two runs with other seeds, over the variance.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None
        self._values = 0

    def add(self, one: Tensor, other: Tensor) -> None:
        """Add maps ``(C, H, W)`` of an image in two runs."""
        flat, again = one.flatten(1).double(), other.flatten(1).double()
        if flat.shape != again.shape:
            return
        sums = torch.stack([(flat - again).square().sum(1) / 2, flat.sum(1), flat.square().sum(1)])
        if self._sums is None:
            self._sums = torch.zeros_like(sums)
        if self._sums.shape == sums.shape:
            self._sums += sums
            self._values += flat.shape[1]

    def numbers(self) -> tuple[Numbers, float]:
        """Return the share of each channel ``(C,)``, from 0 to 1, and that of all channels together."""
        if self._sums is None:
            return np.full(1, np.nan), float("nan")
        noise, total, squares = self._sums / max(self._values, 1)
        variance = (squares - total.square()).clamp_min(0)
        shares = (noise / variance).clamp(0, 1).where(noise > 0, 0.0)
        whole = float((noise.sum() / variance.sum()).clamp(0, 1)) if noise.sum() > 0 else 0.0
        numbers: Numbers = shares.cpu().numpy()
        return numbers, whole


class Equivariance:
    """How well maps follow a shift of the input: ``10 log10(range^2 / MSE)`` in dB, 4 / MSE for maps from -1 to 1.

    Karras et al. 2021, arXiv:2106.12423 (EQ-T). It is the middle half of the maps, away from what the shift brings in.
    """

    def __init__(self) -> None:
        self._errors = MeanNumbers()

    def add(self, maps: Tensor, shifted: Tensor, shift: tuple[int, int]) -> None:
        """Add maps ``(C, H, W)`` of an image, those of the shifted image, and the rows and columns of the shift.

        Constant maps, and maps that are not finite, are left out.
        """
        spread = maps.max().double() - maps.min().double()
        height, width = maps.shape[1:]
        if shifted.shape != maps.shape or min(height, width) < 8 or not 0 < float(spread) < np.inf:
            return
        difference = (shifted.double() - maps.double().roll(shift, (1, 2))) / spread
        middle = difference[:, height // 4 : -(height // 4), width // 4 : -(width // 4)]
        self._errors.add(middle.square().mean((1, 2)).cpu().numpy())

    def numbers(self) -> tuple[Numbers, float]:
        """Return the dB of each channel ``(C,)``, infinite for an exact shift, and that of all channels together."""
        errors = self._errors.numbers()
        if not errors.size:
            return np.full(1, np.nan), float("nan")
        with np.errstate(divide="ignore"):
            return -10 * np.log10(errors), float(-10 * np.log10(errors.mean()))


class OperationNumbers:
    """All that is measured at one operation."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.means: dict[str, MeanNumbers] = {}
        self.similarity = Similarity()
        self.noise = Noise()
        self.equivariance = Equivariance()
        self.spreads: list[float] = []
        """The distance of the least from the greatest value of each image."""
        self.positions = 0
        """The positions of a map, over all images."""
        self.size: tuple[int, int] = (0, 0)
        """Height and width of the maps of the first image."""

    def add(self, maps: Tensor, *, with_similarity: bool) -> None:
        """Add the maps ``(C, H, W)`` of an image, except for what measures say of them."""
        height, width = maps.shape[1:]
        self.positions += height * width
        self.size = self.size if any(self.size) else (height, width)
        self.spreads.append(float(maps.max().double() - maps.min().double()))
        if with_similarity:
            self.similarity.add(maps)

    @property
    def drift(self) -> float:
        """The largest over the smallest distance of extremes among the images; NaN for fewer than two."""
        if len(self.spreads) < 2 or not np.isfinite(self.spreads).all() or min(self.spreads) <= 0:
            return float("nan")
        return max(self.spreads) / min(self.spreads)
