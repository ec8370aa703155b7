"""A Zarr v3 store on disk: arrays of equal length, to which complete rows are added one by one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import zarr
from zarr.codecs import BloscCodec
from zarr.storage import LocalStore

from surgery.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from zarr.core.buffer import Buffer

    Values = NDArray[np.generic]

NAMES_PER_CHUNK = 1024
_METADATA = "zarr.json"


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

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the array."""
        own = ("path", "kind", "index", "source", "dtype")
        return {name: getattr(self, name) for name in own if getattr(self, name) is not None}


class Store:
    """An existing store, to which rows are added.

    The store has consolidated metadata, as zarr-python writes and reads it. That one file is replaced atomically when a
    row is complete, so no reader sees part of a row. The chunks of an incomplete row are overwritten by the next one.
    """

    def __init__(self, path: Path, axis: str) -> None:
        """Open a store. Raises OutputError if the path is not a store of activations along `axis`."""
        try:
            self._root: dict[str, Any] = json.loads((path / _METADATA).read_bytes())
            self._arrays: dict[str, Any] = self._root["consolidated_metadata"]["metadata"]
            self.about: dict[str, Any] = self._root["attributes"]
            self.length: int = self._arrays[axis]["shape"][0]
            self.columns = {name: _column(array) for name, array in self._arrays.items() if name != axis}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path} is not a store of activations; write to another folder") from error
        self.path = path
        self.axis = axis
        group = zarr.open_group(_Chunks(path), mode="r+")
        self._open: dict[str, Any] = {name: group[name] for name in self._arrays}

    def append(self, name: str, row: Mapping[str, Values]) -> None:
        """Add a row with this name: values for each column, by the name of its array."""
        for key, array in self._open.items():
            array.resize((self.length + 1, *array.shape[1:]))
            array[self.length] = name if key == self.axis else row[key]
        self.length += 1
        for key, array in self._arrays.items():
            array["shape"][0] = self.length
            _replace(self.path / key / _METADATA, array)
        _replace(self.path / _METADATA, self._root)


def create(
    path: Path,
    axis: str,
    about: Mapping[str, str],
    columns: Mapping[str, Column],
    scratch: Path,
    *,
    level: int,
    chunk: int,
) -> None:
    """Create a store without rows at `path`. It is built in the folder `scratch`; `chunk` is in bytes."""
    part = scratch / f".{uuid4().hex}.part"
    group = zarr.create_group(part, attributes=dict(about))
    group.create_array(axis, shape=(0,), chunks=(NAMES_PER_CHUNK,), dtype="string", dimension_names=(axis,))
    for name, column in columns.items():
        shape = (0, *column.shape)
        group.create_array(
            name,
            shape=shape,
            chunks=(1, *chunk_shape(column, chunk)),
            dtype=column.stored,
            fill_value=_fill(column.stored),
            compressors=BloscCodec(cname="zstd", clevel=level, shuffle="shuffle") if level else None,
            attributes=column.attributes,
            dimension_names=(axis, *column.axes),
        )
    root = json.loads((part / _METADATA).read_bytes())
    arrays = {name: json.loads((part / name / _METADATA).read_bytes()) for name in (axis, *columns)}
    root["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": arrays}
    _replace(part / _METADATA, root)
    part.rename(path)


def chunk_shape(column: Column, most: int) -> tuple[int, ...]:
    """Return the shape of a chunk of a row: cut along its first axes until it has at most `most` bytes."""
    import numpy as np

    sides = [max(1, side) for side in column.shape]
    for axis in range(len(sides)):
        rest = math.prod(sides[axis + 1 :]) * np.dtype(column.stored).itemsize
        sides[axis] = min(sides[axis], max(1, most // rest))
        if rest <= most:
            break
    return tuple(sides)


class _Chunks(LocalStore):
    """A store on disk that ignores writes of metadata, which are written when a row is complete."""

    async def set(self, key: str, value: Buffer) -> None:
        if not key.endswith(_METADATA):
            await super().set(key, value)


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    part = path.with_name(f".{uuid4().hex}.part")
    part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    part.replace(path)


def _fill(stored: str) -> float | complex | bool:
    """Return the fill value of a dtype. No value is ever missing, but Zarr requires one."""
    import numpy as np

    kind = np.dtype(stored).kind
    return complex("nan+nanj") if kind == "c" else float("nan") if kind == "f" else False if kind == "b" else 0


def _column(array: Mapping[str, Any]) -> Column:
    attributes = array["attributes"]
    return Column(
        path=attributes["path"],
        dtype=attributes["dtype"],
        stored=array["data_type"],
        shape=tuple(array["shape"][1:]),
        axes=tuple(array["dimension_names"][1:]),
        kind=attributes["kind"],
        index=attributes["index"],
        source=attributes.get("source"),
    )
