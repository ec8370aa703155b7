"""The sink that keeps numbers of all images together: exact statistics and histograms of each channel."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from surgery.builtin.sinks.statistics_table import StatisticsTable
    from surgery.drawing import Histograms, Moments
    from surgery.output import Loader, OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation

    Found = dict[str, tuple[str, int, Moments, Histograms | None]]

FILE = "statistics.json"


def _load(path: Path) -> StatisticsTable:
    from surgery.builtin.sinks.statistics_table import StatisticsTable

    return StatisticsTable.load(path)


@dataclass(frozen=True, slots=True)
class Statistics:
    """`statistics.json`: what the values of each channel are, over all images of the run.

    For each operation, and in it for each channel, that is how many values are finite, their mean, standard deviation
    (of the population), least, greatest, the number of zeros, of NaN and of infinite values.

    Sums have about 32 digits, so that the file of a run has the same bytes however its images were divided: into
    batches, worker processes, shards, or runs that were stopped and went on. `squares` are the sums of the squared
    distances to the mean. In the file of a part of a run, of a shard or of one that was stopped, `rest` is what is left
    of both after they were rounded to float64.
    """

    bins: int = 0
    """With bins, also a histogram of each channel and its quantiles, each off by less than a bin. 0: none."""

    places: ClassVar[tuple[str, ...]] = (FILE,)
    gathers: ClassVar[Mapping[str, Loader]] = MappingProxyType({FILE: _load})

    def __post_init__(self) -> None:
        if self.bins and not 2 <= self.bins <= 4096:
            raise RenderError(f"bins is 0, or from 2 to 4096, not {self.bins}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery.builtin.sinks.statistics_table import StatisticsTable

        pending: defaultdict[str | None, Found] = defaultdict(dict)
        finished: list[StatisticsTable] = []
        folder.check_gathered(FILE)

        def write(activation: Activation) -> None:
            found = pending[activation.image]
            if activation.path in found:  # another operation has the same path
                found[activation.path] = _merge(found[activation.path], self._find(activation))
            else:
                found[activation.path] = self._find(activation)

        def finish(image: str | None) -> None:
            if found := pending.pop(image, None):
                finished.append(StatisticsTable.of_image(found, int(image is not None), folder.about))
            if image is None and finished:
                folder.gather(FILE, reduce(StatisticsTable.merge, finished))
                finished.clear()

        def drop(image: str | None) -> None:
            pending.pop(image, None)
            finished.clear()

        folder.when_finished(finish)
        folder.when_dropped(drop)
        yield write

    def _find(self, activation: Activation) -> tuple[str, int, Moments, Histograms | None]:
        from surgery.drawing import find_histograms, find_moments, read_maps

        maps = read_maps(activation)
        histograms = find_histograms(maps, self.bins) if self.bins else None
        return activation.operation.kind, activation.operation.index, find_moments(maps), histograms


def _merge(one: Any, other: Any) -> Any:
    histograms = None if one[3] is None else one[3].merge(other[3])
    return one[0], min(one[1], other[1]), one[2].merge(other[2]), histograms
