"""Exact statistics of each channel, which those of more values are merged into, in any order to the same bits."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.drawing import compiled_kernels
from surgery.drawing.double_double import add, divide, multiply, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

_SUMS = 8
"""A sum is made of as many sums, as in the kernels, so that both give the same bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Statistics of the channels of some images. All arrays are ``(C,)``; `nan` and `inf` count the other values.

    The arrays may have more axes in front, all the same, which nothing is added up over.
    """

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
    mean_rest: NDArray[np.float64]
    """What is left of the mean after it was rounded to float64."""
    squares_rest: NDArray[np.float64]
    """The same of `squares`."""

    @property
    def std(self) -> NDArray[np.float64]:
        """The standard deviation of the population, ``(C,)``; NaN for a channel without finite values."""
        with np.errstate(invalid="ignore"):
            return np.sqrt(self.squares / self.count)

    def merge(self, other: Moments) -> Moments:
        """Return the statistics of both together.

        Means and squares are those of all values (Chan, Golub and LeVeque, 1979), with about 32 digits: once they are
        settled, the order of merging does not matter. Of different numbers of channels, those that one of them lacks
        have no values there.
        """
        channels = max(self.count.shape[-1], other.count.shape[-1])
        one, other = self._with_channels(channels), other._with_channels(channels)
        count = one.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            share = divide(other.count.astype(np.float64), np.maximum(count, 1).astype(np.float64))
            distance = add((other.mean, other.mean_rest), (-one.mean, -one.mean_rest))
            mean = add((one.mean, one.mean_rest), multiply(distance, share))
            weight = multiply(share, (one.count.astype(np.float64), np.zeros_like(share[0])))
            between = multiply(multiply(distance, distance), weight)
            within = add((one.squares, one.squares_rest), (other.squares, other.squares_rest))
            squares = add(within, between)
        return Moments(
            count=count,
            mean=mean[0],
            squares=squares[0],
            least=np.minimum(one.least, other.least),
            greatest=np.maximum(one.greatest, other.greatest),
            zeros=one.zeros + other.zeros,
            nan=one.nan + other.nan,
            inf=one.inf + other.inf,
            mean_rest=mean[1],
            squares_rest=squares[1],
        )

    def settle(self) -> Moments:
        """Return the same statistics, with a mean and squares that do not depend on the order of merging."""
        with np.errstate(invalid="ignore"):
            mean, squares = settle((self.mean, self.mean_rest)), settle((self.squares, self.squares_rest))
        return replace(self, mean=mean[0], mean_rest=mean[1], squares=squares[0], squares_rest=squares[1])

    def over_channels(self, starts: Sequence[int] = (0,)) -> Moments:
        """Return the statistics of groups of channels, each as those of one channel.

        `starts` are the first channels of the groups, which follow each other; none is empty.
        """
        groups = np.repeat(np.arange(len(starts)), np.diff([*starts, len(self.count)]))
        count = np.add.reduceat(self.count, starts)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.add.reduceat(self.count * self.mean, starts) / np.maximum(count, 1)
            distance = self.mean - mean[groups]
            squares = np.add.reduceat(self.squares + self.count * distance * distance, starts)
        none = np.zeros(len(starts))
        return Moments(
            count=count,
            mean=mean,
            squares=squares,
            least=np.minimum.reduceat(self.least, starts),
            greatest=np.maximum.reduceat(self.greatest, starts),
            zeros=np.add.reduceat(self.zeros, starts),
            nan=np.add.reduceat(self.nan, starts),
            inf=np.add.reduceat(self.inf, starts),
            mean_rest=none,
            squares_rest=none,
        )

    def take(self, part: Any) -> Moments:
        """Return a part of all arrays, by what indexes one of them."""
        return Moments(**{name: array[part] for name, array in self.arrays().items()})

    def place(self, channels: NDArray[np.int64], count: int) -> Moments:
        """Return the statistics of `count` channels, of which these are `channels`, and the others have no values."""
        placed = no_moments(count)
        for name, array in self.arrays().items():
            getattr(placed, name)[channels] = array
        return placed

    def _with_channels(self, channels: int) -> Moments:
        own = self.count.shape[-1]
        return self if own == channels else self.place(np.arange(own), channels)

    def arrays(self) -> dict[str, Any]:
        """Return all arrays by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def merge_moments(parts: Sequence[Moments]) -> Moments:
    """Return the statistics of all parts together, which have the same channels. There is at least one."""
    if len(parts) == 1:
        return parts[0]
    names = [each.name for each in fields(Moments)]
    whole = Moments(**{name: np.stack([getattr(part, name) for part in parts]) for name in names})
    while (rows := len(whole.count)) > 1:  # halves are merged at once
        merged = whole.take(slice(0, rows // 2)).merge(whole.take(slice(rows // 2, rows - rows % 2)))
        rest = whole.take(slice(rows - rows % 2, rows))
        whole = Moments(**{name: np.concatenate([getattr(merged, name), getattr(rest, name)]) for name in names})
    return whole.take(0)


def find_moments(maps: Tensor) -> Moments:
    """Return the statistics of maps ``(B, C, H, W)`` of floats, those of a channel over all images."""
    return merge_moments([_of_image(image) for image in maps]) if len(maps) else no_moments(maps.shape[1])


def _of_image(maps: Tensor) -> Moments:
    """Return the statistics of maps ``(C, H, W)``."""
    channels, size = maps.shape[0], maps[0].numel() if len(maps) else 0
    if not size:
        return no_moments(channels)
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
    return replace(found, nan=nan, inf=inf)


def _moments_of_finite(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mean, squares, least, greatest and number of zeros ``(5, N)`` of rows ``(N, size)``."""
    if not rows.shape[1]:
        nothing = no_moments(len(rows))
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
    mean, squares, least, greatest, zeros = moments + 0.0  # -0 becomes 0, which the order decides otherwise
    none, rest = np.zeros(len(count), np.int64), np.zeros(len(count))
    zeros = zeros.astype(np.int64)
    return Moments(count.astype(np.int64), mean, squares, least, greatest, zeros, none, none, rest, rest)


def no_moments(channels: int) -> Moments:
    """Return the statistics of channels without values, in arrays of their own."""
    return Moments(
        count=np.zeros(channels, np.int64),
        mean=np.zeros(channels),
        squares=np.zeros(channels),
        least=np.full(channels, np.inf),
        greatest=np.full(channels, -np.inf),
        zeros=np.zeros(channels, np.int64),
        nan=np.zeros(channels, np.int64),
        inf=np.zeros(channels, np.int64),
        mean_rest=np.zeros(channels),
        squares_rest=np.zeros(channels),
    )
