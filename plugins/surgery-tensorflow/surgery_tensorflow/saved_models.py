"""What the program of a SavedModel says about its network: Keras' description, or the options of operations.

``keras_metadata.pb`` of Keras 2 holds the description. Without it, ``saved_model.pb`` tells the slope of the LeakyReLUs
and the epsilon of the batch norms (tensorflow/core/protobuf/saved_model.proto). Nothing in it is run.
"""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from surgery_tensorflow.protobuf import DamagedMessageError, as_bytes, as_text, iterate_fields
from surgery_tensorflow.stored_values import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_MAX_SIZE = 1 << 28
_META_GRAPH, _GRAPH, _NODE, _LIBRARY, _FUNCTION, _FUNCTION_NODE = 2, 2, 1, 2, 1, 3
_DEFAULT_ALPHA = 0.2
"""Of TensorFlow's operation. Options that have their default value are left out of a SavedModel."""
_DEFAULT_EPSILON = 1e-4


def read_description(folder: Path) -> Mapping[str, Any] | None:
    """Return Keras' description of the model in a SavedModel; None if there is none that can be read."""
    try:
        for number, node in iterate_fields(_read(folder / "keras_metadata.pb")):
            fields = dict(iterate_fields(as_bytes(node))) if number == 1 else {}
            if as_text(fields.get(3, b"")) == "root":
                config = json.loads(as_bytes(fields.get(5, b"")), object_hook=_plain_tuple)
                return config if isinstance(config, dict) and isinstance(config.get("config"), dict) else None
    except (DamagedMessageError, OSError, ValueError, RecursionError):
        pass
    return None


def read_settings(folder: Path) -> Settings | None:
    """Return what the operations of a SavedModel tell of the settings; Keras' defaults for what they don't.

    None is for a program without a LeakyReLU, or with several slopes, which is not that of a network of the tutorial.
    """
    settings = Settings()
    try:
        nodes = list(_iterate_nodes(_read(folder / "saved_model.pb")))
        slopes = {_read_float(node, "alpha", _DEFAULT_ALPHA) for kind, node in nodes if kind == "LeakyRelu"}
        epsilons = {
            _read_float(node, "epsilon", _DEFAULT_EPSILON) for kind, node in nodes if kind.startswith("FusedBatchNorm")
        }
    except (DamagedMessageError, OSError, struct.error):
        return settings
    if len(slopes) != 1 or len(epsilons) > 1:
        return None
    settings = replace(settings, slope=slopes.pop())
    return replace(settings, epsilon=epsilons.pop()) if epsilons else settings


def _plain_tuple(value: dict[str, Any]) -> Any:
    """Return the items of a tuple as Keras 2 writes it, and another mapping as it is."""
    return value["items"] if value.get("class_name") == "__tuple__" and "items" in value else value


def _read(path: Path) -> bytes:
    if path.stat().st_size > _MAX_SIZE:
        raise DamagedMessageError("it is too large")
    return path.read_bytes()


def _iterate_nodes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the kind and the message of each operation in a program and in its functions."""
    for meta_graph in _children(data, _META_GRAPH):
        for graph in _children(meta_graph, _GRAPH):
            nodes = list(_children(graph, _NODE))
            for library in _children(graph, _LIBRARY):
                for function in _children(library, _FUNCTION):
                    nodes += _children(function, _FUNCTION_NODE)
            for node in nodes:
                yield next((as_text(value) for number, value in iterate_fields(node) if number == 2), ""), node


def _children(message: bytes, wanted: int) -> Iterator[bytes]:
    return (as_bytes(value) for number, value in iterate_fields(message) if number == wanted)


def _read_float(node: bytes, name: str, default: float) -> float:
    """Return an option of an operation, with the digits that a float32 has."""
    for entry in _children(node, 5):
        fields = dict(iterate_fields(entry))
        if as_text(fields.get(1, b"")) == name:
            bits = dict(iterate_fields(as_bytes(fields.get(2, b"")))).get(4, 0)
            (number,) = struct.unpack("<f", struct.pack("<I", bits))
            return float(f"{number:.7g}")
    return default
