"""The sink: what is computed for an image is kept until the image is finished, and then added to a store."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import surgery
from surgery.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from surgery import Activation, OutputFolder
    from surgery.stages import Write
    from surgery_zarr.store import Column, Store, Values

SAME = ("weights_sha256", "mode", "range", "side", "preprocessing", "reader")
"""What has to be the same in all runs that add to a store."""
AXES: dict[int, tuple[str, ...]] = {
    1: ("feature",),
    2: ("token", "feature"),
    3: ("channel", "height", "width"),
    4: ("channel", "depth", "height", "width"),
}
"""Names of the axes of values of so many."""
CHANNELS_LAST = "channels-last"
"""The layout of values whose last axis counts channels."""
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Zarr:
    """`activations.zarr`: an array for each operation, ``(images, ...)``, and the images' names in the array `image`.

    A chunk holds values of one image alone, so that nothing is written twice, and an image is there once all of it is:
    a run that is killed leaves a store that holds every image that was finished. What belongs to a whole batch is in
    `batches.zarr`, along the axis `batch`. An image whose shapes are not those of the images before it goes to a store
    for such images, `activations-2.zarr` and so on.

    A run adds its images to a store that it finds in its folder. It is refused, with OutputError, where the store is of
    another model or mode, or of images that were read otherwise, and where the run begins with other operations or
    shapes. (A folder with the manifest of a finished run is refused, or overwritten, before that: to add to its store,
    move the manifest away.)

    What NumPy has no dtype for, bfloat16 and the 8-bit floats, is kept as float32, which holds it exactly; the
    attribute `dtype` of an array is torch's own.
    """

    level: int = 1
    """Of compression, from 0 (none) to 9: Blosc's zstd over shuffled bytes."""
    chunk: int = 4
    """MiB of values in a chunk, at most: what is larger is cut along its first axes."""
    mixed: bool = False
    """Whether a run may begin with other operations or shapes than those that an earlier one left in the folder."""

    places: ClassVar[tuple[str, ...]] = ("activations.zarr", "batches.zarr")

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 9:
            raise OutputError(f"level is 0 to 9, not {self.level}")
        if self.chunk < 1:
            raise OutputError(f"chunk is at least 1 (MiB), not {self.chunk}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        kept: defaultdict[str | None, dict[str, tuple[Column, Values]]] = defaultdict(dict)
        batch: list[str] = []
        with ExitStack() as stack:
            images = _Stores(self, folder, stack, "activations", "image")
            batches = _Stores(self, folder, stack, "batches", "batch")

            def write(activation: Activation) -> None:
                rows = kept[activation.image]
                values = _array(activation.values)
                rows[_free(activation.path, {"image", "batch", *rows})] = _column(activation, values), values

            def finished(image: str | None) -> None:
                rows = kept.pop(image, {})
                if image is not None:
                    batch.append(image)
                    images.add(image, rows)
                else:
                    batches.add(", ".join(batch), rows)
                    batch.clear()

            def dropped(image: str | None) -> None:
                kept.pop(image, None)
                batch.clear()

            folder.when_finished(finished)
            folder.when_dropped(dropped)
            yield write


class _Stores:
    """The store for the shapes that came first, and one for each other set of shapes."""

    def __init__(self, sink: Zarr, folder: OutputFolder, stack: ExitStack, name: str, axis: str) -> None:
        from surgery_zarr.store import Store

        self.sink = sink
        self.folder = folder
        self.stack = stack
        self.name = name
        self.axis = axis
        self.stores: list[Store] = []
        while (folder.path / self._next()).exists():
            store = Store(folder.path / self._next(), axis)
            _check_same(store, folder)
            self.stores.append(store)
        self.used: set[Path] = set()

    def add(self, name: str, rows: dict[str, tuple[Column, Values]]) -> None:
        """Add what was computed for one image, or for one batch."""
        from surgery_zarr.store import Store, create

        if not rows:
            return
        columns = {key: column for key, (column, _) in rows.items()}
        store = next((store for store in self.stores if store.columns == columns), None)
        try:
            if store is None:
                if self.stores and not self.used and not self.sink.mixed:
                    _refuse(self.stores[0], columns)
                path = self.stack.enter_context(self.folder.directory(self._next()))
                how: Any = {"level": self.sink.level, "chunk": self.sink.chunk * _MIB}
                create(path, self.axis, self.folder.about, columns, self.folder.scratch, **how)
                store = Store(path, self.axis)
                self.stores.append(store)
                self.used.add(path)
            elif store.path not in self.used:
                self.stack.enter_context(self.folder.directory(store.path.name))
                self.used.add(store.path)
            store.append(name, {key: values for key, (_, values) in rows.items()})
        except OSError as error:
            raise OutputError(f"can't write {self.name}.zarr: {(error.strerror or str(error)).lower()}") from error

    def _next(self) -> str:
        return f"{self.name}-{len(self.stores) + 1}.zarr" if self.stores else f"{self.name}.zarr"


def _check_same(store: Store, folder: OutputFolder) -> None:
    for name in SAME:
        there, now = store.about.get(name), folder.about.get(name)
        if there != now:
            if name == "weights_sha256" and there and now:
                there, now = there[:12], now[:12]
            raise OutputError(f"{store.path} is of a run with {name} {there} and not {now}; write to another folder")


def _refuse(store: Store, columns: dict[str, Column]) -> None:
    """Say in what a run begins otherwise than the store."""
    there = {column.path: column for column in store.columns.values()}
    now = {column.path: column for column in columns.values()}
    odd = next((path for path in now if now[path] != there.get(path)), None)
    odd = odd or next(path for path in there if path not in now)
    if odd not in now:
        what = f"{odd} as well, which this run does not"
    elif odd not in there:
        what = f"{len(there)} operations, and {odd} is none of them"
    else:
        what = f"{odd} as {_shown(there[odd])}, and this run begins with {_shown(now[odd])}"
    raise OutputError(f"{store.path} holds {what}; write to another folder, or let zarr:mixed=true take both")


def _shown(column: Column) -> str:
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
    """Names with their sizes, ``("channel_64", "height_32", "width_32")``: what has one name has one size."""
    shape = tuple(activation.values.shape)
    names = AXES.get(len(shape)) or tuple(f"axis{number}" for number in range(1, len(shape) + 1))
    specs = {activation.operation.path + spec.key: spec for spec in activation.operation.tensors or ()}
    spec = specs.get(activation.path)
    if activation.image is not None and spec is not None and len(spec.shape) == len(shape):
        names = ("window", *AXES.get(len(shape) - 1, names[1:]))  # several parts of a batch's first axis are an image's
    return tuple(f"{name}_{side}" for name, side in zip(names, shape, strict=True))


def _free(path: str, taken: set[str]) -> str:
    """A path as a name that Zarr and file systems take, which is not taken."""
    safe = surgery.file_name(path)
    safe = f"op{safe}" if safe.startswith("__") else safe
    folded = {name.lower() for name in taken}
    name, number = safe, 1
    while name.lower() in folded:
        number += 1
        name = f"{safe}~{number}"
    return name


def _array(values: Tensor) -> Any:
    """A copy, dense, of a dtype that NumPy has."""
    values = values.detach()
    if values.is_quantized:
        values = values.dequantize()
    values = values.to_dense().to("cpu", copy=True).resolve_conj().resolve_neg()
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()
