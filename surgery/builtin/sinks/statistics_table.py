"""What is known about the values of all operations over many images: tables that are merged, written and read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from surgery.drawing import Histograms, Moments, merge_moments, no_moments
from surgery.output import as_json
from surgery.text import natural_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""The quantiles that a file with histograms has."""
_MOST_PARTS = 8
"""So many statistics wait to be merged at once, since a merge of few channels takes as long as one of thousands."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """An operation of a table."""

    index: int
    natural_path: tuple[Any, ...]
    """Its path, so that rows are in order."""
    path: str
    kind: str
    channels: int


@dataclass(frozen=True, eq=False)
class StatisticsTable:
    """Statistics of the channels of several operations, one operation after the other.

    Tables can be merged in any order and grouping: what is written in the end has the same bytes.
    """

    images: int
    rows: tuple[Row, ...]
    """In order."""
    parts: tuple[Moments, ...]
    """Those of some images each, over the channels of all rows."""
    histograms: Histograms | None
    about: Mapping[str, str]
    """What the file says about the run."""

    @classmethod
    def of_image(
        cls, found: Mapping[str, tuple[str, int, Moments, Histograms | None]], images: int, about: Mapping[str, str]
    ) -> StatisticsTable:
        """Return the table of one image, or of what belongs to a batch: 1 or 0 `images`.

        `found` has for the path of each operation its kind, its index, and what was found in its values.
        """
        rows = {
            path: Row(index, tuple(natural_key(path)), path, kind, len(moments.count))
            for path, (kind, index, moments, _) in found.items()
        }
        ordered = tuple(sorted(rows.values()))
        moments = _join([found[row.path][2] for row in ordered])
        histograms = [found[row.path][3] for row in ordered]
        return cls(images, ordered, (moments,), _join_histograms(histograms), about)

    def merge(self, other: StatisticsTable) -> StatisticsTable:
        """Return the table of the images of both."""
        rows = self.rows if self.rows == other.rows else _merge_rows(self.rows, other.rows)
        bins = max(0 if each.histograms is None else each.histograms.counts.shape[1] for each in (self, other))
        one, other = self._with_rows(rows, bins), other._with_rows(rows, bins)
        histograms = None
        if one.histograms is not None and other.histograms is not None:
            histograms = one.histograms.merge(other.histograms)
        parts = (*one.parts, *other.parts)
        parts = parts if len(parts) <= _MOST_PARTS else (merge_moments(parts),)
        return StatisticsTable(self.images + other.images, rows, parts, histograms, self.about)

    @cached_property
    def moments(self) -> Moments:
        """The statistics over all images."""
        return merge_moments(self.parts).settle()

    def save(self, path: Path, /, *, is_part: bool) -> None:
        """Write the table as JSON, from which `load` reads it; all digits of it if it `is_part` of a whole."""
        places = zip(self.rows, self._places, strict=True)
        operations = {row.path: self._describe(row, place, is_part=is_part) for row, place in places}
        path.write_bytes(as_json({"images": self.images, "operations": operations, **self.about}))

    @classmethod
    def load(cls, path: Path) -> StatisticsTable:
        """Read a table. Raises OSError, or ValueError, LookupError or TypeError for what is no such file."""
        content: dict[str, Any] = orjson.loads(path.read_bytes())
        images, operations = content.pop("images"), content.pop("operations")
        rows, moments, histograms = [], [], []
        for name, entry in operations.items():
            rows.append(
                Row(entry["index"], tuple(natural_key(name)), name, entry["kind"], len(entry["channels"]["count"]))
            )
            moments.append(_read_moments(entry))
            histograms.append(_read_histograms(entry["histograms"]) if "histograms" in entry else None)
        return cls(images, tuple(rows), (_join(moments),), _join_histograms(histograms), content)

    @cached_property
    def _places(self) -> list[slice]:
        ends = np.cumsum([row.channels for row in self.rows], dtype=np.int64).tolist()
        return [slice(end - row.channels, end) for row, end in zip(self.rows, ends, strict=True)]

    @cached_property
    def _over_channels(self) -> Mapping[str, Moments]:
        """The statistics of all channels of each operation together, by its path."""
        filled = [(row.path, place.start) for row, place in zip(self.rows, self._places, strict=True) if row.channels]
        if not filled:
            return {}
        whole = self.moments.over_channels([start for _, start in filled])
        return {path: whole.take(slice(number, number + 1)) for number, (path, _) in enumerate(filled)}

    def _with_rows(self, rows: tuple[Row, ...], bins: int) -> StatisticsTable:
        """Return the same statistics with other rows, of which those that are not there have no values."""
        if rows == self.rows and (self.histograms is None or self.histograms.counts.shape[1] == bins):
            return self
        starts = dict(zip((row.path for row in rows), np.cumsum([0, *(row.channels for row in rows)]), strict=False))
        channels = np.concatenate(
            [np.arange(row.channels) + starts[row.path] for row in self.rows] or [np.zeros(0, np.int64)]
        )
        count = sum(row.channels for row in rows)
        histograms = None if self.histograms is None else self.histograms.place(channels, count, bins)
        return replace(
            self, rows=rows, parts=tuple(part.place(channels, count) for part in self.parts), histograms=histograms
        )

    def _describe(self, row: Row, place: slice, *, is_part: bool) -> dict[str, Any]:
        """Return the entry of an operation in the file."""
        moments = self.moments.take(place)
        whole = self._over_channels.get(row.path) or no_moments(1)
        entry: dict[str, Any] = {
            "kind": row.kind,
            "index": row.index,
            "all": {name: values.tolist()[0] for name, values in _describe_moments(whole).items()},
            "channels": _describe_moments(moments),
            "squares": moments.squares,
        }
        if is_part:
            entry["rest"] = {"mean": moments.mean_rest, "squares": moments.squares_rest}
        if self.histograms is not None:
            histograms = self.histograms
            own = Histograms(histograms.exponent[place], histograms.first[place], histograms.counts[place])
            quantiles = own.quantiles(np.array(QUANTILES))
            quantiles = np.clip(quantiles, moments.least[:, None], moments.greatest[:, None])
            entry["histograms"] = {
                "bin_width": np.ldexp(1.0, own.exponent),
                "first_bin": own.first,
                "counts": own.counts,
            }
            entry["quantiles"] = {
                f"{share:g}": np.ascontiguousarray(row) for share, row in zip(QUANTILES, quantiles.T, strict=True)
            }
        return entry


def _merge_rows(one: Sequence[Row], other: Sequence[Row]) -> tuple[Row, ...]:
    """Return the operations of both, each with the greater number of channels and the lesser index."""
    rows = {row.path: row for row in one}
    for row in other:
        known = rows.get(row.path, row)
        channels, index = max(row.channels, known.channels), min(row.index, known.index)
        rows[row.path] = replace(min(row, known), channels=channels, index=index)
    return tuple(sorted(rows.values()))


def _join(moments: Sequence[Moments]) -> Moments:
    """Return the statistics of all channels, one after the other."""
    arrays = [each.arrays() for each in (*moments, no_moments(0))]
    return Moments(**{name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]})


def _join_histograms(histograms: Sequence[Histograms | None]) -> Histograms | None:
    """Return the histograms of all channels, one after the other; None if there are none."""
    known = [each for each in histograms if each is not None]
    if not known:
        return None
    filled = [each for each in known if len(each.counts)] or known[:1]
    names = ("exponent", "first", "counts")
    return Histograms(*(np.concatenate([getattr(each, name) for each in filled]) for name in names))


def _describe_moments(moments: Moments) -> dict[str, Any]:
    """Return numbers for JSON, where what is not finite becomes null: a channel without finite values has no mean."""
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


def _read_moments(entry: Mapping[str, Any]) -> Moments:
    channels = entry["channels"]

    def floats(values: Sequence[float | None], missing: float = np.nan) -> NDArray[np.float64]:
        read = np.array(values, np.float64)
        return np.where(np.isnan(read) & (count == 0), missing, read)

    def integers(values: Sequence[int]) -> NDArray[np.int64]:
        return np.array(values, np.int64)

    count = integers(channels["count"])
    rest = entry.get("rest", {"mean": [0.0] * len(count), "squares": [0.0] * len(count)})
    return Moments(
        count=count,
        mean=floats(channels["mean"], 0),
        squares=floats(entry["squares"]),
        least=floats(channels["min"], np.inf),
        greatest=floats(channels["max"], -np.inf),
        zeros=integers(channels["zeros"]),
        nan=integers(channels["nan"]),
        inf=integers(channels["inf"]),
        mean_rest=floats(rest["mean"]),
        squares_rest=floats(rest["squares"]),
    )


def _read_histograms(entry: Mapping[str, Any]) -> Histograms:
    _, exponent = np.frexp(np.array(entry["bin_width"], np.float64))
    counts = np.array(entry["counts"], np.int64).reshape(len(entry["counts"]), -1 if entry["counts"] else 0)
    return Histograms(exponent.astype(np.int64) - 1, np.array(entry["first_bin"], np.int64), counts)
