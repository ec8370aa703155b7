"""The sink that keeps numbers of all images together: exact statistics and histograms of each channel."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from surgery.errors import RenderError
from surgery.output import as_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.drawing import Histograms, Moments
    from surgery.output import OutputFolder
    from surgery.stages import Write
    from surgery.types import Activation, Operation

FILE = "statistics.json"
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""The quantiles that a file with histograms has."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """`statistics.json`: what the values of each channel are, over all images of the run.

    For each operation, and in it for each channel, that is how many values are finite, their mean, standard deviation
    (of the population), least, greatest, the number of zeros, of NaN and of infinite values. Means and deviations are
    those of all values up to the rounding of float64, whatever the size of the batches.
    """

    bins: int = 0
    """With bins, also a histogram of each channel and its quantiles, each off by less than a bin. 0: none."""

    places: ClassVar[tuple[str, ...]] = (FILE,)

    def __post_init__(self) -> None:
        if self.bins and not 2 <= self.bins <= 4096:
            raise RenderError(f"bins is 0, or from 2 to 4096, not {self.bins}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        pending: defaultdict[str | None, list[_Found]] = defaultdict(list)
        total: dict[str, _Found] = {}
        images = 0

        def write(activation: Activation) -> None:
            pending[activation.image].append(self._find(activation))

        def finish(image: str | None) -> None:
            nonlocal images
            images += image is not None
            for found in pending.pop(image, ()):
                total[found.path] = total[found.path].merge(found) if found.path in total else found

        folder.when_finished(finish)
        folder.when_dropped(lambda image: pending.pop(image, None))
        try:
            yield write
        finally:
            if images:
                ordered = sorted(total.values(), key=lambda found: found.operation.index)
                operations = {found.path: found.describe() for found in ordered}
                with folder.file(FILE) as path:
                    path.write_bytes(as_json({"images": images, "operations": operations, **folder.about}))

    def _find(self, activation: Activation) -> _Found:
        from surgery.drawing import find_histograms, find_moments, read_maps

        maps = read_maps(activation)
        histograms = find_histograms(maps, self.bins) if self.bins else None
        return _Found(activation.path, activation.operation, find_moments(maps), histograms)


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """What is known about the values of one operation."""

    path: str
    operation: Operation
    moments: Moments
    histograms: Histograms | None

    def merge(self, other: _Found) -> _Found:
        """Return what is known about the values of both."""
        histograms = None
        if self.histograms is not None and other.histograms is not None:
            histograms = self.histograms.merge(other.histograms)
        return _Found(self.path, self.operation, self.moments.merge(other.moments), histograms)

    def describe(self) -> dict[str, Any]:
        """Return the entry of the operation in the file."""
        whole = {name: values.tolist()[0] for name, values in _describe_moments(self.moments.over_channels()).items()}
        entry = {"kind": self.operation.kind, "all": whole, "channels": _describe_moments(self.moments)}
        if self.histograms is not None:
            import numpy as np

            quantiles = self.histograms.quantiles(np.array(QUANTILES))
            quantiles = np.clip(quantiles, self.moments.least[:, None], self.moments.greatest[:, None])
            entry["histograms"] = {
                "bin_width": np.ldexp(1.0, self.histograms.exponent),
                "first_bin": self.histograms.first,
                "counts": self.histograms.counts,
            }
            entry["quantiles"] = {
                f"{share:g}": np.ascontiguousarray(row) for share, row in zip(QUANTILES, quantiles.T, strict=True)
            }
        return entry


def _describe_moments(moments: Moments) -> dict[str, Any]:
    """Return numbers for JSON, where what is not finite becomes null: a channel without finite values has no mean."""
    import numpy as np

    return {
        "count": moments.count,
        "mean": np.where(moments.count == 0, np.nan, moments.mean),
        "std": moments.std,
        "min": moments.least,
        "max": moments.greatest,
        "zeros": moments.zeros,
        "nan": moments.nan,
        "inf": moments.inf,
    }
