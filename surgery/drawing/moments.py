"""Exact statistics of each channel, which those of more values are merged into."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.drawing import compiled_kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_SUMS = 8
"""A sum is made of as many sums, as in the kernels, so that both give the same bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Statistics of the channels of some images. All arrays are ``(C,)``; `nan` and `inf` count the other values."""

    count: NDArray[np.int64]
    """How many values are finite; all that follows is of these."""
    mean: NDArray[np.float64]
    """0 for a channel without finite values."""
    squares: NDArray[np.float64]
    """The sum of the squared distances to the mean."""
    least: NDArray[np.float64]
    """inf for a channel without finite values."""
    greatest: NDArray[np.float64]
    """-inf for a channel without finite values."""
    zeros: NDArray[np.int64]
    nan: NDArray[np.int64]
    inf: NDArray[np.int64]

    @property
    def std(self) -> NDArray[np.float64]:
        """The standard deviation of the population, ``(C,)``; NaN for a channel without finite values."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.squares / self.count)

    def merge(self, other: Moments) -> Moments:
        """Return the statistics of both together.

        Means and squares are those of all values, up to the rounding of float64 (Chan, Golub and LeVeque, 1979). Of
        different numbers of channels, those that one of them lacks have no values there.
        """
        channels = max(len(self.count), len(other.count))
        one, other = self._with_channels(channels), other._with_channels(channels)
        count = one.count + other.count
        share = other.count / np.maximum(count, 1)
        distance = other.mean - one.mean
        return Moments(
            count=count,
            mean=one.mean + distance * share,
            squares=one.squares + other.squares + distance * distance * (one.count * share),
            least=np.minimum(one.least, other.least),
            greatest=np.maximum(one.greatest, other.greatest),
            zeros=one.zeros + other.zeros,
            nan=one.nan + other.nan,
            inf=one.inf + other.inf,
        )

    def over_channels(self) -> Moments:
        """Return the statistics of all channels together, as those of one channel."""
        whole = self._with_channels(max(1, len(self.count)))
        while len(whole.count) > 1:  # halves, so that rounding errors grow with their number only
            half = (len(whole.count) + 1) // 2
            parts = [
                Moments(*(array[part] for array in whole.arrays().values()))
                for part in (slice(0, half), slice(half, None))
            ]
            whole = parts[0].merge(parts[1])
        return whole

    def _with_channels(self, channels: int) -> Moments:
        missing = channels - len(self.count)
        if not missing:
            return self
        more = _of_nothing(missing)
        return Moments(*(np.concatenate((array, getattr(more, name))) for name, array in self.arrays().items()))

    def arrays(self) -> dict[str, Any]:
        """Return all arrays by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def find_moments(maps: Tensor) -> Moments:
    """Return the statistics of maps ``(B, C, H, W)`` of floats, those of a channel over all images."""
    images = [_of_image(image) for image in maps]
    whole = _of_nothing(maps.shape[1])
    for image in images:
        whole = whole.merge(image)
    return whole


def _of_image(maps: Tensor) -> Moments:
    """Return the statistics of maps ``(C, H, W)``."""
    channels, size = maps.shape[0], maps[0].numel() if len(maps) else 0
    if not size:
        return _of_nothing(channels)
    values = maps.detach().to("cpu").contiguous()
    if compiled_kernels.can_use_kernels(values):
        moments = np.empty((5, channels))
        if compiled_kernels.kernels.find_moments(values.numpy(), moments):
            return _from_rows(moments, np.full(channels, size))
    rows = values.reshape(channels, size).double().numpy()
    finite = np.isfinite(rows)
    nan, inf = np.isnan(rows).sum(1), np.isinf(rows).sum(1)
    if finite.all():
        return _from_rows(_moments_of_finite(rows), np.full(channels, size))
    parts = [_moments_of_finite(row[mask][None]) for row, mask in zip(rows, finite, strict=True)]
    found = _from_rows(np.concatenate(parts, 1), finite.sum(1))
    return Moments(found.count, found.mean, found.squares, found.least, found.greatest, found.zeros, nan, inf)


def _moments_of_finite(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean, squares, least, greatest and number of zeros ``(5, N)`` of rows ``(N, size)``."""
    if not rows.shape[1]:
        nothing = _of_nothing(len(rows))
        return np.stack([nothing.mean, nothing.squares, nothing.least, nothing.greatest, nothing.mean])
    mean = _sum(rows) / rows.shape[1]
    distance = rows - mean[:, None]
    return np.stack([mean, _sum(distance * distance), rows.min(1), rows.max(1), (rows == 0).sum(1)])


def _sum(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    filled = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _SUMS)))
    sums = np.add.reduce(filled.reshape(len(rows), -1, _SUMS), axis=1)
    pairs = sums[:, ::2] + sums[:, 1::2]
    total: NDArray[np.float64] = (pairs[:, 0] + pairs[:, 1]) + (pairs[:, 2] + pairs[:, 3])
    return total


def _from_rows(moments: NDArray[np.float64], count: NDArray[np.int64]) -> Moments:
    mean, squares, least, greatest, zeros = moments
    none = np.zeros(len(count), np.int64)
    return Moments(count.astype(np.int64), mean, squares, least, greatest, zeros.astype(np.int64), none, none)


def _of_nothing(channels: int) -> Moments:
    zero, none = np.zeros(channels), np.zeros(channels, np.int64)
    return Moments(none, zero, zero, np.full(channels, np.inf), np.full(channels, -np.inf), none, none, none)
