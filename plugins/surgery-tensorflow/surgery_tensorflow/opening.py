"""From a located file to the network that is stored there."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.errors import CheckpointError, did_you_mean
from surgery.stages import LoadedNetwork
from surgery_tensorflow.bundle import Bundle
from surgery_tensorflow.hdf5 import open_archive, open_hdf5
from surgery_tensorflow.keras_config import OtherNetworkError
from surgery_tensorflow.keras_models import open_keras_model
from surgery_tensorflow.object_graph import find_models
from surgery_tensorflow.recognition import recognize
from surgery_tensorflow.saved_models import read_description, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from surgery_tensorflow.locations import Location
    from surgery_tensorflow.recognition import RecognizedNetwork
    from surgery_tensorflow.stored_values import StoredModel


def open_network(path: Path, location: Location, part: str | None) -> LoadedNetwork:
    """Return the network that `part` names, or else the first generator, or else the first network.

    `path` is what the user named. Raises CheckpointError if there is none.
    """
    with _open_models(location) as models:
        return _choose_network(path, models, part)


@contextmanager
def _open_models(location: Location) -> Iterator[list[StoredModel]]:
    """Open the models in a file, whose values can be read within the block."""
    if location.form != "bundle":
        with (open_archive if location.form == "archive" else open_hdf5)(location.path) as model:
            yield [model]
        return
    models = find_models(Bundle(location.path))
    if location.saved_model is not None:
        config, settings = read_description(location.saved_model), read_settings(location.saved_model)
        models = [replace(model, config=config, settings=settings) for model in models]
    yield models


def _choose_network(path: Path, models: list[StoredModel], part: str | None) -> LoadedNetwork:
    wanted = models if part is None else [_find_part(path, models, part)]
    reasons: list[str] = []
    found: list[tuple[StoredModel, RecognizedNetwork]] = []
    for model in wanted:
        try:
            network = recognize(model)
        except OtherNetworkError as error:
            reasons.append(str(error))
            continue
        if network is not None:
            found.append((model, network))
    if not found:
        unknown = _describe_unknown(path, wanted, reasons)
        if len(models) == 1 and (config := models[0].config) is not None and path.is_file():
            return LoadedNetwork(open_keras_model(path, config, unknown))
        raise CheckpointError(unknown)
    model, network = min(found, key=lambda each: not each[1].is_generator)
    others = tuple(other.name for other in models if other is not model)
    return LoadedNetwork(network.build(), part=model.name if others else "", others=others, notes=network.notes)


def _find_part(path: Path, models: Sequence[StoredModel], part: str) -> StoredModel:
    """Return the model of this name, in upper case or lower case. Raises CheckpointError if there is none."""
    named = {model.name: model for model in models if model.name}
    if not named:
        raise CheckpointError(f"{path} holds a single network, which has no name; leave out part {part!r}")
    chosen = named.get(part) or next((model for name, model in named.items() if name.lower() == part.lower()), None)
    if chosen is None:
        near = did_you_mean(part, named)
        raise CheckpointError(f"{path} has no network {part!r}; there is {_abbreviate(list(named))}{near}")
    return chosen


def _describe_unknown(path: Path, models: Sequence[StoredModel], reasons: Sequence[str]) -> str:
    """Return what a file holds that is no known network."""
    layers = [layer.path or model.name for model in models for layer in model.layers if layer.variables]
    known = "TensorFlow's tutorial or affinelayer's code"
    if not layers:
        return f"{path} holds no weights"
    if reasons:
        return f"{path} is not a pix2pix network of {known}: {reasons[0]}"
    shown = _abbreviate(layers)
    count = "1 layer, which is not one" if len(layers) == 1 else f"{len(layers)} layers, which are not those"
    return f"{path} has {count} of a pix2pix network of {known}: {shown}"


def _abbreviate(names: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
