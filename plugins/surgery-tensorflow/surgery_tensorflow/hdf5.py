"""The models in HDF5 files and ``.keras`` archives of Keras 2 and 3.

There are two forms. In the older one (``model.save("x.h5")``), attributes list the layers and their weights by name, in
the model's order. In the newer one (``.weights.h5``, and inside of ``.keras``), groups have the names of classes with a
number, and weights are numbered in a group ``vars``.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.errors import CheckpointError, SurgeryError, describe_os_error, first_line
from surgery_tensorflow.stored_values import StoredLayer, StoredModel, StoredVariable, order_by_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import h5py
    import numpy as np
    from numpy.typing import NDArray

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_WEIGHTS, _CONFIG = "model.weights.h5", "config.json"
_MAX_CONFIG_SIZE = 1 << 26
_MAX_ARCHIVE_SIZE = 1 << 36
_MAX_RATIO = 64
"""The most times that values in memory may be larger than in a file. Weights are hardly compressible."""
_MAX_OBJECTS = 100_000
_MAX_DEPTH = 24


@contextmanager
def open_hdf5(path: Path) -> Iterator[StoredModel]:
    """Open the model in an HDF5 file, whose values can be read within the block.

    Raises CheckpointError for a file that is cut short or damaged. External links and values in other files are not
    followed.
    """
    with _open_file(path, path) as file:
        yield _read_model(path, file, None)


@contextmanager
def open_archive(path: Path) -> Iterator[StoredModel]:
    """Open the model in a ``.keras`` archive as `open_hdf5` does. Nothing in the archive is run."""
    config = read_archive_config(path)
    with _open_file(path, io.BytesIO(_read_member(path, _WEIGHTS, _MAX_ARCHIVE_SIZE))) as file:
        yield _read_model(path, file, config)


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive with the members of a ``.keras`` archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {_WEIGHTS, _CONFIG} <= set(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def read_archive_config(path: Path) -> Mapping[str, Any]:
    """Return Keras' description of the model in a ``.keras`` archive. Raises CheckpointError if it is damaged."""
    return _parse_config(path, _read_member(path, _CONFIG, _MAX_CONFIG_SIZE))


def _read_member(path: Path, name: str, most: int) -> bytes:
    size = 0
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(name)
            size = member.file_size
            if size <= min(most, _MAX_RATIO * member.compress_size + 4096):
                return archive.read(member)
    except Exception as error:  # zipfile raises many kinds for damaged archives
        raise CheckpointError(f"{path} is cut short or damaged ({first_line(error)}); fetch it again") from error
    raise CheckpointError(f"{path}: {name} would take {size:,} bytes, which is too many")


def _parse_config(path: Path, text: bytes | str) -> Mapping[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the description of its model is damaged ({first_line(error)})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: the description of its model is a {type(config).__name__}, not a mapping")
    return config


@contextmanager
def _open_file(path: Path, source: Path | io.BytesIO) -> Iterator[h5py.File]:
    """Open an HDF5 file. Errors of h5py within the block become CheckpointErrors that name `path`."""
    import h5py

    try:
        with h5py.File(source, "r") as file:
            yield file
    except SurgeryError:
        raise
    except OSError as error:
        reason = describe_os_error(error) if error.errno else first_line(error)
        raise CheckpointError(f"{path} is cut short or damaged ({reason[:120]}); fetch it again") from error
    except Exception as error:  # h5py raises many kinds for damaged files
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{path} is cut short or damaged ({reason[:120]}); fetch it again") from error


def _read_model(path: Path, file: h5py.File, config: Mapping[str, Any] | None) -> StoredModel:
    if config is None and isinstance(text := file.attrs.get("model_config"), (str, bytes)):
        config = {**_parse_config(path, text), "keras_version": str(file.attrs.get("keras_version", ""))}
    root = _child_group(file, "model_weights") or file
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers = _read_named_layers(path, root)
    else:
        found = {place: _read_numbered(path, group) for place, group in _find_variable_groups(file)}
        layers = {place: found[place] for place in order_by_names(found)}
    return StoredModel("", tuple(StoredLayer(place, values) for place, values in layers.items()), config)


def _read_named_layers(path: Path, root: h5py.Group) -> dict[str, dict[str, StoredVariable]]:
    """Return the variables by layer in the older form, in which attributes give their names in order."""
    layers: dict[str, dict[str, StoredVariable]] = {}
    for layer in _read_names(root, "layer_names"):
        group = _child_group(root, layer)
        for weight in _read_names(group, "weight_names") if group is not None else ():
            place, _, name = weight.partition(":")[0].rpartition("/")
            dataset = _child_dataset(path, group, weight)
            if dataset is not None:
                place = place if place.startswith(layer) else f"{layer}/{place}"
                layers.setdefault(place, {})[name] = _describe_dataset(path, dataset)
    return layers


def _read_names(group: h5py.Group, attribute: str) -> list[str]:
    """Return a list of texts in an attribute, which Keras splits into several if it is long."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names]


def _find_variable_groups(root: h5py.Group) -> Iterator[tuple[str, h5py.Group]]:
    """Yield the groups ``vars`` of the newer form with the paths of their layers, without optimizers."""
    stack = [("", root, 0)]
    count = 0
    while stack:
        place, group, depth = stack.pop()
        count += 1
        if count > _MAX_OBJECTS or depth > _MAX_DEPTH:
            return
        for name in group:
            if name == "optimizer" or (child := _child_group(group, name)) is None:
                continue
            if name == "vars":
                yield place, child
            else:
                inner = f"{place}/{name}" if place else name
                stack.append(
                    (place if name in ("layers", "_layer_checkpoint_dependencies") else inner, child, depth + 1)
                )


def _read_numbered(path: Path, group: h5py.Group) -> dict[str, StoredVariable]:
    datasets = {name: _child_dataset(path, group, name) for name in group}
    return {name: _describe_dataset(path, dataset) for name, dataset in datasets.items() if dataset is not None}


def _child_group(group: h5py.Group, name: str) -> h5py.Group | None:
    """Return a group within a group; None if there is none, and for a link to elsewhere, which is not followed."""
    import h5py

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    child = group.get(name)
    return child if isinstance(child, h5py.Group) else None


def _child_dataset(path: Path, group: h5py.Group | None, name: str) -> h5py.Dataset | None:
    """Return a dataset by its path within a group; None if there is none.

    Raises CheckpointError for one whose values lie in another file.
    """
    import h5py

    *places, last = name.split("/")
    for place in places:
        group = _child_group(group, place) if group is not None and place else None
    if group is None or not last:
        return None
    link = group.get(last, getlink=True)
    if isinstance(link, h5py.ExternalLink):
        raise CheckpointError(f"{path}: {name} is a link to another file, which is not followed")
    dataset = group.get(last) if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        return None
    if dataset.external or dataset.is_virtual:
        raise CheckpointError(f"{path}: the values of {name} lie in another file, which is not read")
    return dataset


def _describe_dataset(path: Path, dataset: h5py.Dataset) -> StoredVariable:
    def read() -> NDArray[np.generic]:
        size = math.prod(dataset.shape) * dataset.dtype.itemsize
        stored = dataset.id.get_storage_size()
        if dataset.dtype.kind not in "fiu" or size > (_MAX_RATIO if dataset.chunks else 1) * stored:
            raise CheckpointError(f"{path}: {dataset.name} has fewer values in the file than its shape {dataset.shape}")
        values: NDArray[np.generic] = dataset[()]
        return values

    return StoredVariable(tuple(dataset.shape or ()), read)
