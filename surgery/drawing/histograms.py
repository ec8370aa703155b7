"""Histograms of each channel that need no range in advance, and of which any two can be merged exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_FINEST = -126
"""The exponent of the finest bins."""
_DIGITS = 24
"""Bits of a float32: bins are not finer than the values can be told apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Histograms:
    """A histogram of each channel. Bin b holds the finite values from ``b * 2**k`` up to ``(b + 1) * 2**k``.

    k is the least exponent with which all values of the channel lie in as many bins as there are. So it depends on
    these values alone, and not on the order in which they came: when the range grows, neighboring bins become one.
    """

    exponent: NDArray[np.int64]
    """k, ``(C,)``."""
    first: NDArray[np.int64]
    """b of the first bin, ``(C,)``: that of the least value."""
    counts: NDArray[np.int64]
    """``(C, bins)``."""

    def merge(self, other: Histograms) -> Histograms:
        """Return the histograms of both together. They have the same number of channels and of bins."""
        is_own, is_other = self.counts.any(1), other.counts.any(1)
        exponent = np.maximum(
            np.where(is_own | ~is_other, self.exponent, other.exponent),
            np.where(is_other | ~is_own, other.exponent, self.exponent),
        )
        while True:
            (low, high), (other_low, other_high) = self._ends(other, exponent), other._ends(self, exponent)
            low, high = np.minimum(low, other_low), np.maximum(high, other_high)
            too_wide = high - low >= self.counts.shape[1]
            if not too_wide.any():
                return Histograms(exponent, low, self._counts_in(exponent, low) + other._counts_in(exponent, low))
            exponent = exponent + too_wide

    def _ends(self, other: Histograms, exponent: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first and the last filled bin ``(C,)`` as bins of another width; of an empty one, the other's."""
        is_own = self.counts.any(1)
        shift = exponent - np.where(is_own, self.exponent, other.exponent)
        first = np.where(is_own, self.first, other.first)
        last = first + np.where(is_own, _last_filled(self.counts), _last_filled(other.counts))
        return first >> shift, last >> shift

    def _counts_in(self, exponent: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the counts in wider bins, from other first bins on."""
        shift = np.maximum(exponent - self.exponent, 0)  # that of an empty one does not matter
        place = (self.first[:, None] + np.arange(self.counts.shape[1]) >> shift[:, None]) - first[:, None]
        counts = np.zeros_like(self.counts)
        channel, bin_ = np.nonzero(self.counts)
        np.add.at(counts, (channel, place[channel, bin_]), self.counts[channel, bin_])
        return counts

    def place(self, channels: NDArray[np.int64], count: int, bins: int) -> Histograms:
        """Return the histograms of `count` channels, of which these are `channels`, and the others have no values.

        `bins` is the number of bins that they have; it is not known of no channels.
        """
        placed = Histograms(np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros((count, bins), np.int64))
        if len(channels):
            placed.exponent[channels], placed.first[channels] = self.exponent, self.first
            placed.counts[channels] = self.counts
        return placed

    def quantiles(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return quantiles ``(C, Q)`` for shares above 0: off by less than a bin; NaN for a channel without values.

        A quantile is the least value that is as great as this share of all values.
        """
        found = np.full((len(self.counts), len(shares)), np.nan)
        for channel in np.flatnonzero(self.counts.any(1)):
            counts = self.counts[channel]
            ends = np.concatenate([[0], np.cumsum(counts)])
            target = shares * ends[-1]
            bin_ = np.searchsorted(ends, target, side="left") - 1
            inside = (target - ends[bin_]) / counts[bin_]
            found[channel] = np.ldexp(self.first[channel] + bin_ + inside, self.exponent[channel])
        return found


def find_histograms(maps: Tensor, bins: int) -> Histograms:
    """Return the histograms of the channels of maps ``(B, C, H, W)`` of floats."""
    values = maps.detach().to("cpu").double().transpose(0, 1).flatten(1).numpy()
    channels = len(values)
    finite = np.isfinite(values)
    least = np.where(finite, values, np.inf).min(1, initial=np.inf)
    greatest = np.where(finite, values, -np.inf).max(1, initial=-np.inf)
    empty = least > greatest
    least, greatest = np.where(empty, 0, least), np.where(empty, 0, greatest)
    exponent = _fitting_exponent(least, greatest, bins)
    low = np.floor(np.ldexp(least, -exponent)).astype(np.int64)
    place = np.floor(np.ldexp(np.where(finite, values, least[:, None]), -exponent[:, None])).astype(np.int64)
    place += (np.arange(channels) * bins - low)[:, None]
    counts = np.bincount(place[finite], minlength=channels * bins).reshape(channels, bins)
    return Histograms(exponent, low, counts)


def _last_filled(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of the last bin ``(C,)`` that is not empty; 0 if all are."""
    bins = counts.shape[1]
    return np.where(counts.any(1), bins - 1 - (counts[:, ::-1] > 0).argmax(1), 0)


def _fitting_exponent(least: NDArray[np.float64], greatest: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Return the least exponent ``(C,)`` with which the values from `least` to `greatest` lie in so many bins."""
    width, digits = _exponent_of((greatest - least) / bins) - 2, _exponent_of(np.maximum(abs(least), abs(greatest)))
    exponent: NDArray[np.int64] = np.maximum(np.maximum(width, digits - _DIGITS), _FINEST).astype(np.int64)
    while True:
        low, high = (np.floor(np.ldexp(end, -exponent)) for end in (least, greatest))
        too_wide = high - low >= bins
        if not too_wide.any():
            return exponent
        exponent = exponent + too_wide


def _exponent_of(sizes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the least e with each size below ``2**e``; for 0, which is below all, `_FINEST`."""
    return np.where(sizes > 0, np.frexp(sizes)[1], _FINEST)
