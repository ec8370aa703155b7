"""Linear CKA: how alike two representations are of the same images, also if their channels do not correspond."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

MIN_IMAGES = 4
"""The least number of images from which a similarity says something."""


class LinearCka:
    """Collects the mean of each channel of two values over images, and compares them.

    Linear centered kernel alignment (Kornblith et al., Similarity of Neural Network Representations Revisited, ICML
    2019): 1 for representations that are the same up to rotation and scale, near 0 for unrelated ones. The unbiased
    estimate of Nguyen et al. (2021) is used, which does not grow with the number of channels. The means of channels
    take little memory, and say nothing about where in an image they come from.
    """

    def __init__(self) -> None:
        self._first: list[Tensor] = []
        self._second: list[Tensor] = []

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add the maps ``(B, C, ...)`` and ``(B, C', ...)`` of the same images."""
        for kept, maps in ((self._first, first), (self._second, second)):
            flat = maps.detach().flatten(2) if maps.ndim > 2 else maps.detach()[..., None]
            kept.append(flat.mean(2, dtype=torch.float64).cpu())

    def value(self) -> float | None:
        """Return the similarity; None for fewer than `MIN_IMAGES` images, NaN if a representation is constant."""
        if not self._first:
            return None
        first, second = torch.cat(self._first), torch.cat(self._second)
        if len(first) < MIN_IMAGES:
            return None
        one, other = first @ first.T, second @ second.T
        norms = _hsic(one, one) * _hsic(other, other)
        return _hsic(one, other) / math.sqrt(norms) if norms > 0 else math.nan


def _hsic(one: Tensor, other: Tensor) -> float:
    """Return the unbiased estimate of the Hilbert-Schmidt independence criterion (Song et al., JMLR 2012)."""
    n = len(one)
    one, other = one.clone().fill_diagonal_(0), other.clone().fill_diagonal_(0)
    trace = (one * other).sum()
    total = one.sum() * other.sum() / ((n - 1) * (n - 2))
    mixed = 2 / (n - 2) * (one.sum(0) * other.sum(0)).sum()
    return float((trace + total - mixed) / (n * (n - 3)))
