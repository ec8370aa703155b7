"""The sink: the values of a batch are collected until it is finished, and are then written as shards of a store."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar

import surgery
from surgery.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from surgery import Activation, OutputFolder
    from surgery.stages import Write
    from surgery_zarr.store import Column, Columns, Rows, Store, Values

    Row = dict[str, tuple[Column, Values]]

AXES: dict[int, tuple[str, ...]] = {
    1: ("feature",),
    2: ("token", "feature"),
    3: ("channel", "height", "width"),
    4: ("channel", "depth", "height", "width"),
}
"""Names of the axes of one image's values, by their number."""
DECISION = "zarr"
"""The key of what this sink decides on the first images, in `OutputFolder.shared`: which columns the stores have."""
_TAKEN = ("image", "path", "batch", "done")
"""Names of arrays that are of no operation."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Zarr:
    """A sink that writes ``activations.zarr``, a Zarr v3 store with an array ``(images, ...)`` for each operation.

    The arrays have a row for each image of the run, from the beginning. Beside them, ``image`` has the names of the
    images and ``path`` their files, and ``done`` is true where an image is finished: the others, which failed or are
    not done yet, are NaN, 0 or False. So the store can be read while a run goes on.

    A shard, one file, holds the rows of one batch, and is written once: more images in a batch make fewer files. A
    chunk in it holds values of one image only. Worker processes, shards of a run and runs that go on write other files,
    which never change, so that nothing has to be locked. Values of whole batches are in ``batches.zarr``, along the
    axis ``batch``, whose labels are the numbers of their first images.

    Images that lack a value of the first image of the run, or have it with another shape, are in stores of their own,
    named by the size of the input and by a digest of all shapes: ``activations-512x256-1f0c3d5e.zarr``. So is what
    other images have and the first one lacks. If the images of a batch can't be run together, since their sizes differ
    or since one was repaired later, those of the same shape that come later in it are in a store whose name ends with
    ``-2``. All these stores have a row for each image of the run too.

    Values of dtypes that NumPy lacks, bfloat16 and the 8-bit floats, are stored as float32, which represents them
    exactly. The attribute ``dtype`` of an array is torch's dtype.
    """

    level: int = 1
    """The level of compression, from 0 (none) to 9, by Blosc with zstd and shuffled bytes."""
    chunk: int = 4
    """The most MiB of values in a chunk; larger values are cut along their first axes."""

    places: ClassVar[tuple[str, ...]] = ("activations.zarr", "batches.zarr")
    alone: ClassVar[bool] = True
    decides_on_first_image: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise OutputError(f"level is 0 to 9, not {self.level}")
        if self.chunk < 1:
            raise OutputError(f"chunk is at least 1 (MiB), not {self.chunk}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        pending: defaultdict[str | None, Row] = defaultdict(dict)
        finished: list[str] = []
        writer = _StoreWriter(self, folder)

        def write(activation: Activation) -> None:
            row = pending[activation.image]
            values = _array(activation.values)
            row[_unique_name(activation.path, {*_TAKEN, *row})] = _column(activation, values), values

        def finish(image: str | None) -> None:
            if image is not None:
                finished.append(image)
                return
            writer.write(
                {writer.number_of(name): pending.pop(name, {}) for name in finished},
                pending.pop(None, {}),
            )
            finished.clear()

        def drop(image: str | None) -> None:
            pending.pop(image, None)
            finished.clear()

        folder.when_finished(finish)
        folder.when_dropped(drop)
        yield write


class _StoreWriter:
    """Writes the values of batches into the stores of a run."""

    def __init__(self, sink: Zarr, folder: OutputFolder) -> None:
        from surgery_zarr.store import Rows, Store

        images = folder.images
        if images is None:
            raise OutputError("the sink zarr needs to know all images in advance; this folder is of no run of images")
        size, count = images.batch_size, len(images.names)
        self.number_of = images.number_of
        self._folder = folder
        self._size = size
        self._images = Rows("image", count, size, {"image": images.names, "path": images.sources})
        self._batches = Rows("batch", -(-count // size), 1, {"batch": range(0, count, size)})

        @lru_cache(maxsize=8)
        def make_store(rows: Rows, columns: Columns) -> Store:
            return Store(rows, columns, folder.about, level=sink.level, chunk=sink.chunk * _MIB)

        self._make_store = make_store

    def write(self, images: dict[int, Row], batch: Row) -> None:
        """Write the values of a batch: those of each image by its number, and those of the whole batch."""
        if not images:
            return
        if DECISION not in self._folder.shared:  # the stores with the plain names hold what the first batch has
            first = next(iter(images.values()))
            self._folder.shared[DECISION] = {"activations": _describe(first), "batches": _describe(batch)}
        number = min(images) // self._size
        self._write_rows("activations", self._images, number, images)
        self._write_rows("batches", self._batches, number, {number: batch})

    def _write_rows(self, kind: str, rows: Rows, shard: int, values: dict[int, Row]) -> None:
        """Write rows of one shard, each into the stores with its columns."""
        by_columns: defaultdict[Columns, dict[int, Row]] = defaultdict(dict)
        for number, row in values.items():
            for part in filter(None, self._divide(kind, row)):
                by_columns[tuple((name, column) for name, (column, _) in part.items())][number] = part
        for columns, parts in by_columns.items():
            self._write_shard(kind, rows, shard, columns, parts)

    def _divide(self, kind: str, row: Row) -> tuple[Row, Row]:
        """Return what belongs into the first store, if the row has all that the store has, and the rest."""
        first, own = self._folder.shared[DECISION][kind], _describe(row)
        if any(own.get(name) != column for name, column in first.items()):
            return {}, row
        parts = tuple({name: row[name] for name in row if (name in first) == inside} for inside in (True, False))
        return parts[0], parts[1]

    def _write_shard(self, kind: str, rows: Rows, shard: int, columns: Columns, values: dict[int, Row]) -> None:
        store = self._make_store(rows, columns)
        place = self._choose_place(kind, columns, shard)
        for name, content in store.description.items():
            self._folder.common_file(f"{place}/{name}", content)
        arrays = {number: {name: array for name, (_, array) in row.items()} for number, row in values.items()}
        for name, content in store.encode(arrays):
            with self._folder.file(f"{place}/{name}", exact=True) as path:
                path.write_bytes(content)

    def _choose_place(self, kind: str, columns: Columns, shard: int) -> str:
        """Return the store of these columns that lacks a shard: its files are never written twice."""
        name, described = kind, {name: column.describe() for name, column in columns}
        if self._folder.shared[DECISION][kind] != described:
            own = blake2b(repr(sorted(described.items())).encode("utf-8", "replace"), digest_size=4).hexdigest()
            shape = next((column.shape for _, column in columns if column.path == "input"), ())
            size = "x".join(map(str, shape[1:] if len(shape) > 2 else shape))
            name = "-".join(filter(None, (kind, size, own)))
        place, number = f"{name}.zarr", 1
        while self._folder.has_file(f"{place}/done/c.{shard}"):
            number += 1
            place = f"{name}-{number}.zarr"
        return place


def _describe(row: Row) -> dict[str, str]:
    """Return what decides in which store a row is, by the names of the arrays."""
    return {name: column.describe() for name, (column, _) in row.items()}


def _column(activation: Activation, values: Values) -> Column:
    from surgery_zarr.store import Column

    operation = activation.operation
    return Column(
        path=activation.path,
        dtype=str(activation.values.dtype).removeprefix("torch."),
        stored=str(values.dtype),
        shape=values.shape,
        axes=_axes(activation),
        kind=operation.kind,
        index=operation.index,
        source=operation.source,
    )


def _axes(activation: Activation) -> tuple[str, ...]:
    """Return names of axes with their sizes, ``("channel_64", "height_32", "width_32")``, so that names fit sizes."""
    shape = tuple(activation.values.shape)
    names = AXES.get(len(shape)) or tuple(f"axis{number}" for number in range(1, len(shape) + 1))
    specs = {activation.operation.path + spec.key: spec for spec in activation.operation.tensors or ()}
    spec = specs.get(activation.path)
    if activation.image is not None and spec is not None and len(spec.shape) == len(shape):
        names = ("window", *AXES.get(len(shape) - 1, names[1:]))  # an image has several rows of the batch
    return tuple(f"{name}_{side}" for name, side in zip(names, shape, strict=True))


def _unique_name(path: str, taken: set[str]) -> str:
    """Return a path as a name that Zarr and file systems accept, with a number if the name is taken."""
    safe = surgery.file_name(path)
    safe = f"op{safe}" if safe.startswith("__") else safe
    folded = {name.lower() for name in taken}
    name, number = safe, 1
    while name.lower() in folded:
        number += 1
        name = f"{safe}~{number}"
    return name


def _array(values: Tensor) -> Any:
    """Return a dense copy of values on the CPU; dtypes that NumPy lacks become float32."""
    values = values.detach()
    if values.is_quantized:
        values = values.dequantize()
    values = values.to_dense().to("cpu", copy=True).resolve_conj().resolve_neg()
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()
