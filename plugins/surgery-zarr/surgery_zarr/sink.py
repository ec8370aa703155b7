"""The sink: the values of an image are collected until it is finished, and are then added to a store."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import surgery
from surgery.errors import OutputError, describe_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from surgery import Activation, OutputFolder
    from surgery.stages import Write
    from surgery_zarr.store import Column, Store, Values

SHARED_FACTS = ("weights_sha256", "mode", "range", "side", "preprocessing", "reader")
"""The entries of `OutputFolder.about` that must be the same in all runs that add to a store."""
AXES: dict[int, tuple[str, ...]] = {
    1: ("feature",),
    2: ("token", "feature"),
    3: ("channel", "height", "width"),
    4: ("channel", "depth", "height", "width"),
}
"""Names of the axes of one image's values, by their number."""
CHANNELS_LAST = "channels-last"
"""The layout of values whose last axis counts channels."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Zarr:
    """A sink that writes ``activations.zarr``: an array ``(images, ...)`` per operation, and the array ``image``.

    ``image`` has the names of the images. A chunk holds values of one image only, so nothing is written twice. An image
    becomes visible when it is complete: a run that is killed leaves a valid store with all finished images. Values of
    whole batches are in ``batches.zarr``, along the axis ``batch``. If the shapes of an image differ from those of the
    images before it, it is written to another store: ``activations-2.zarr`` and so on.

    A run adds its images to a store that exists in its folder. It raises OutputError if the store is of another model
    or mode or of images that were read differently, or if the run begins with other operations or shapes. A folder with
    the manifest of a finished run is rejected, or overwritten, before that; to add to its store, move the manifest.

    Values of dtypes that NumPy lacks, bfloat16 and the 8-bit floats, are stored as float32, which represents them
    exactly. The attribute ``dtype`` of an array is torch's dtype.
    """

    level: int = 1
    """The level of compression, from 0 (none) to 9, by Blosc with zstd and shuffled bytes."""
    chunk: int = 4
    """The most MiB of values in a chunk; larger values are cut along their first axes."""
    mixed: bool = False
    """Whether a run may begin with other operations or shapes than the store in its folder has."""

    places: ClassVar[tuple[str, ...]] = ("activations.zarr", "batches.zarr")

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise OutputError(f"level is 0 to 9, not {self.level}")
        if self.chunk < 1:
            raise OutputError(f"chunk is at least 1 (MiB), not {self.chunk}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        pending: defaultdict[str | None, dict[str, tuple[Column, Values]]] = defaultdict(dict)
        batch: list[str] = []
        with ExitStack() as stack:
            images = _Stores(self, folder, stack, "activations", "image")
            batches = _Stores(self, folder, stack, "batches", "batch")

            def write(activation: Activation) -> None:
                rows = pending[activation.image]
                values = _array(activation.values)
                rows[_unique_name(activation.path, {"image", "batch", *rows})] = _column(activation, values), values

            def finished(image: str | None) -> None:
                rows = pending.pop(image, {})
                if image is not None:
                    batch.append(image)
                    images.add(image, rows)
                else:
                    batches.add(", ".join(batch), rows)
                    batch.clear()

            def dropped(image: str | None) -> None:
                pending.pop(image, None)
                batch.clear()

            folder.when_finished(finished)
            folder.when_dropped(dropped)
            yield write


class _Stores:
    """The stores of a run along one axis: one for the first set of shapes, one for each other set."""

    def __init__(self, sink: Zarr, folder: OutputFolder, stack: ExitStack, name: str, axis: str) -> None:
        from surgery_zarr.store import Store

        self.sink = sink
        self.folder = folder
        self.stack = stack
        self.name = name
        self.axis = axis
        self.stores: list[Store] = []
        while (folder.path / self._next_name()).exists():
            store = Store(folder.path / self._next_name(), axis)
            _check_same_run(store, folder)
            self.stores.append(store)
        self.used: set[Path] = set()

    def add(self, name: str, rows: dict[str, tuple[Column, Values]]) -> None:
        """Add a row to the store with its shapes: the values of one image, or of one batch."""
        from surgery_zarr.store import Store, create

        if not rows:
            return
        columns = {key: column for key, (column, _) in rows.items()}
        store = next((store for store in self.stores if store.columns == columns), None)
        try:
            if store is None:
                if self.stores and not self.used and not self.sink.mixed:
                    _raise_difference(self.stores[0], columns)
                path = self.stack.enter_context(self.folder.directory(self._next_name()))
                options: Any = {"level": self.sink.level, "chunk": self.sink.chunk * _MIB}
                create(path, self.axis, self.folder.about, columns, self.folder.scratch, **options)
                store = Store(path, self.axis)
                self.stores.append(store)
                self.used.add(path)
            elif store.path not in self.used:
                self.stack.enter_context(self.folder.directory(store.path.name))
                self.used.add(store.path)
            store.append(name, {key: values for key, (_, values) in rows.items()})
        except OSError as error:
            raise OutputError(f"can't write {self.name}.zarr: {describe_os_error(error)}") from error

    def _next_name(self) -> str:
        return f"{self.name}-{len(self.stores) + 1}.zarr" if self.stores else f"{self.name}.zarr"


def _check_same_run(store: Store, folder: OutputFolder) -> None:
    for name in SHARED_FACTS:
        stored, current = store.about.get(name), folder.about.get(name)
        if stored != current:
            if name == "weights_sha256" and stored and current:
                stored, current = stored[:12], current[:12]
            raise OutputError(
                f"{store.path} is of a run with {name} {stored} and not {current}; write to another folder"
            )


def _raise_difference(store: Store, columns: dict[str, Column]) -> None:
    """Raise OutputError with the first operation in which the columns of a run differ from those of a store."""
    stored = {column.path: column for column in store.columns.values()}
    current = {column.path: column for column in columns.values()}
    path = next((path for path in current if current[path] != stored.get(path)), None)
    path = path or next(path for path in stored if path not in current)
    if path not in current:
        difference = f"{path}, which this run does not have"
    elif path not in stored:
        difference = f"{len(stored)} operations without {path}"
    else:
        difference = f"{path} as {_describe(stored[path])}, and this run begins with {_describe(current[path])}"
    raise OutputError(f"{store.path} has {difference}; write to another folder, or allow both by zarr:mixed=true")


def _describe(column: Column) -> str:
    return f"{'x'.join(map(str, column.shape)) or 'one number'} {column.dtype}"


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
