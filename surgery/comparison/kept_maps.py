"""The maps of an image that are drawn: of the operations that differ most, the channels that differ most."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from surgery.comparison.side_by_side import StepValues
    from surgery.types import Operation

THUMBNAIL = 128
"""The largest side of the maps of a timeline, in pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptChannel:
    """A channel of an operation in all runs."""

    operation: Operation
    channel: int
    relative: float
    """The norm of its largest difference over the norm of all channels in the first run."""
    maps: Sequence[Tensor | None]
    """For each run: its map, float32 ``(H, W)`` on the CPU; None if the run has none of this shape."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptOperation:
    """An operation whose channels are kept."""

    operation: Operation
    relative: float
    """The largest relative difference of a run."""
    channels: Sequence[KeptChannel]


@dataclass(frozen=True, slots=True, eq=False)
class MeanMaps:
    """The mean absolute map of an operation in each run."""

    operation: Operation
    relative: Sequence[float | None]
    """The relative difference of each run; None for a run without such a value."""
    maps: Sequence[Tensor | None]
    """Float32 ``(h, w)``, reduced to `THUMBNAIL` at most."""


class KeptMaps:
    """Looks at the values of each operation while they are there, and copies few of them."""

    def __init__(
        self, read_maps: Callable[[int, Operation, Tensor], Tensor], operations: int, channels: int, *, means: bool
    ) -> None:
        """`read_maps` returns a value of a run as ``(B, C, H, W)``. With `means`, mean maps are kept too."""
        self._read_maps = read_maps
        self._operations = operations
        self._channels = channels
        self._keeps_means = means
        self._best: list[tuple[float, int, KeptOperation]] = []
        """A heap: the operation that differs least comes first."""
        self.means: list[MeanMaps] = []

    @property
    def operations(self) -> list[KeptOperation]:
        """The kept operations in order of execution."""
        return [kept for _, _, kept in sorted(self._best, key=lambda entry: entry[2].operation.index)]

    def add(self, step: StepValues) -> None:
        """Look at the values of an operation, and keep what is among the most changed so far."""
        values = [self._as_maps(place, step.operation, value) for place, value in enumerate(step.values)]
        first = values[0]
        if first is None:
            return
        same = [each if each is not None and each.shape == first.shape else None for each in values]
        norm = float(_finite(first).norm())
        changes = [None if each is None else _finite(each - first).square().sum((1, 2)) for each in same]
        relative = [None if each is None else _ratio(math.sqrt(float(each.sum())), norm) for each in changes]
        known = [each for each in changes[1:] if each is not None]
        if self._keeps_means:
            self.means.append(MeanMaps(step.operation, relative, [_mean_map(each) for each in values]))
        most = max((each for each in relative[1:] if each is not None), default=0.0)
        if known and most > 0:
            self._keep(step.operation, most, norm, torch.stack(known).amax(0), same)

    def _keep(
        self, operation: Operation, relative: float, norm: float, changes: Tensor, maps: Sequence[Tensor | None]
    ) -> None:
        is_full = len(self._best) >= self._operations
        if self._operations == 0 or (is_full and relative <= self._best[0][0]):
            return
        chosen = changes.argsort(descending=True, stable=True)[: self._channels].tolist()
        channels = [
            KeptChannel(
                operation,
                channel,
                _ratio(math.sqrt(float(changes[channel])), norm),
                [None if each is None else each[channel].clone() for each in maps],
            )
            for channel in sorted(chosen)
            if changes[channel] > 0 and not self._has([None if each is None else each[channel] for each in maps])
        ]
        if channels:
            entry = (relative, -operation.index, KeptOperation(operation, relative, channels))
            (heapq.heapreplace if is_full else heapq.heappush)(self._best, entry)

    def _has(self, maps: Sequence[Tensor | None]) -> bool:
        """Return whether another operation, such as one that a concatenation reads, has the same maps."""
        kept = (channel for _, _, operation in self._best for channel in operation.channels)
        return any(_all_equal(channel.maps, maps) for channel in kept)

    def _as_maps(self, place: int, operation: Operation, value: Any) -> Tensor | None:
        """Return the value of the first image as float32 maps ``(C, H, W)`` on the CPU; None for other values."""
        if not isinstance(value, Tensor) or value.is_complex() or value.is_quantized or not value.numel():
            return None
        maps = self._read_maps(place, operation, value.detach()) if value.ndim else value.detach().reshape(1, 1, 1, 1)
        return maps[0].to("cpu", torch.float32)


def _finite(maps: Tensor) -> Tensor:
    return maps.nan_to_num(0, 0, 0)


def _ratio(distance: float, norm: float) -> float:
    return distance / norm if norm else (math.inf if distance else 0.0)


def _all_equal(ones: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(
        one is other or (one is not None and other is not None and torch.equal(one, other)) for one, other in pairs
    )


def _mean_map(maps: Tensor | None) -> Tensor | None:
    if maps is None:
        return None
    mean = maps.abs().mean(0)
    if max(mean.shape) <= THUMBNAIL:
        return mean
    height, width = (max(1, round(side * THUMBNAIL / max(mean.shape))) for side in mean.shape)
    return torch.nn.functional.adaptive_avg_pool2d(mean[None, None], (height, width))[0, 0]
