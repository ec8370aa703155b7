"""A Zarr v3 store: its description, which is known before any value, and its values, encoded shard by shard."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec
from zarr.storage import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Values = NDArray[np.generic]

DONE = "done"
"""The array that says which rows have values."""
_METADATA = "zarr.json"
_FLAT_KEYS: Any = {"name": "default", "separator": "."}
"""Names of files without folders: ``c.7.0.0.0``."""
_WHOLE: Any = {"write_empty_chunks": True}
"""Have every row that is done in a file, whatever its values."""


@dataclass(frozen=True, slots=True)
class Column:
    """One array of a store, by the properties of its rows."""

    path: str
    """The path of the operation, followed by a key if its value contains several tensors."""
    dtype: str
    """The name of the dtype in torch."""
    stored: str
    """The name of the dtype in the store, NumPy's."""
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    """A name for each axis of a row. Axes of the same name have the same size."""
    kind: str = field(default="", compare=False)
    index: int = field(default=0, compare=False)
    source: str | None = field(default=None, compare=False)

    def describe(self) -> str:
        """Return in a line what two columns have in common whose rows fit into one array."""
        return f"{self.path}, {self.dtype}, {self.stored}, {self.shape}, {self.axes}"

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the array."""
        own = ("path", "kind", "index", "source", "dtype")
        return {name: getattr(self, name) for name in own if getattr(self, name) is not None}


Columns = tuple[tuple[str, Column], ...]
"""The columns of a store by the names of their arrays."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a store, whether they have values or not. A shard holds some that follow each other."""

    axis: str
    """The name of the first axis of all arrays."""
    count: int
    in_shard: int
    index: Mapping[str, Sequence[str] | Sequence[int]]
    """What is known of each row in advance, by the name of its array."""


class Store:
    """A store of so many rows, in memory: what its files contain. Nothing of their content depends on when it is made.

    The description has consolidated metadata, as zarr-python writes and reads it.
    """

    def __init__(self, rows: Rows, columns: Columns, about: Mapping[str, str], *, level: int, chunk: int) -> None:
        """`level` is that of the compression, and `chunk` the most bytes of a chunk."""
        self._files: dict[str, Any] = {}
        labels = " ".join([*(name for name in rows.index if name != rows.axis), DONE])
        # What xarray shows as coordinates, beside the labels of the axis, which are called like the axis.
        group = zarr.create_group(MemoryStore(self._files), attributes={**about, "coordinates": labels})
        for name, values in rows.index.items():
            dtype: Any = "string" if isinstance(values[0], str) else "int64"
            array = group.create_array(
                name,
                shape=(rows.count,),
                chunks=(rows.count,),
                dtype=dtype,
                dimension_names=(rows.axis,),
                chunk_key_encoding=_FLAT_KEYS,
            )
            array[:] = np.array(values, dtype=object if dtype == "string" else dtype)
        self._arrays: dict[str, Any] = {
            name: group.create_array(
                name,
                shape=(rows.count, *column.shape),
                chunks=(1, *(cut := chunk_shape(column, chunk))),
                shards=(rows.in_shard, *(_round_up(side, part) for side, part in zip(column.shape, cut, strict=True))),
                dtype=column.stored,
                fill_value=_fill(column.stored),
                compressors=BloscCodec(cname="zstd", clevel=level, shuffle="shuffle") if level else None,
                attributes=column.attributes,
                dimension_names=(rows.axis, *column.axes),
                chunk_key_encoding=_FLAT_KEYS,
                config=_WHOLE,
            )
            for name, column in columns
        }
        self._arrays[DONE] = group.create_array(
            DONE,
            shape=(rows.count,),
            chunks=(rows.in_shard,),
            dtype="bool",
            fill_value=False,
            compressors=None,
            dimension_names=(rows.axis,),
            chunk_key_encoding=_FLAT_KEYS,
        )
        self.description = dict(self._describe())
        """The files of the store that have no values, by name."""

    def encode(self, rows: Mapping[int, Mapping[str, Values]]) -> Iterator[tuple[str, bytes]]:
        """Yield the files of one shard, by name: the values of these rows by their numbers, in it all rows it has."""
        runs = [
            [number for _, number in run] for _, run in groupby(enumerate(sorted(rows)), lambda pair: pair[1] - pair[0])
        ]
        for name, array in self._arrays.items():
            for run in runs:
                array[run[0] : run[-1] + 1] = True if name == DONE else np.stack([rows[number][name] for number in run])
            yield from self._take()

    def _describe(self) -> Iterator[tuple[str, bytes]]:
        content: dict[str, Any] = {name: json.loads(self._files[name].to_bytes()) for name in self._metadata_names()}
        root = content.pop(_METADATA)
        inside = {name.removesuffix(f"/{_METADATA}"): array for name, array in content.items()}
        root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": inside}
        for name, array in content.items():
            yield name, _as_json(array)
        yield from self._take()
        yield _METADATA, _as_json(root)  # at last: a store that has it is complete

    def _take(self) -> Iterator[tuple[str, bytes]]:
        """Yield the chunks in memory, and free it."""
        for name in sorted(set(self._files) - set(self._metadata_names())):
            yield name, self._files.pop(name).to_bytes()

    def _metadata_names(self) -> list[str]:
        return [name for name in self._files if name.endswith(_METADATA)]


def chunk_shape(column: Column, most: int) -> tuple[int, ...]:
    """Return the shape of a chunk of a row: cut along its first axes until it has at most `most` bytes."""
    sides = [max(1, side) for side in column.shape]
    for axis in range(len(sides)):
        rest = math.prod(sides[axis + 1 :]) * np.dtype(column.stored).itemsize
        sides[axis] = min(sides[axis], max(1, most // rest))
        if rest <= most:
            break
    return tuple(sides)


def _round_up(side: int, part: int) -> int:
    """Return the least multiple of `part`, above 0, that is as great as `side`: a shard has whole chunks."""
    return max(1, -(-side // part)) * part


def _as_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _fill(stored: str) -> float | complex | bool:
    """Return the value that a row without values has: NaN, or 0 in dtypes that lack it."""
    kind = np.dtype(stored).kind
    return complex("nan+nanj") if kind == "c" else float("nan") if kind == "f" else False if kind == "b" else 0
