"""Any model that Keras describes, by Keras 3 on its torch backend: its layers become modules under their own names.

What a file says is checked before Keras sees it: only classes of Keras are built, and none that holds Python code.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from surgery.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import nn

_CODE = (
    *("Lambda", "__lambda__", "function", "TFOpLambda", "SlicingOpLambda", "TorchModuleWrapper", "JaxLayer"),
    *("StringLookup", "IntegerLookup", "TextVectorization"),
)
"""Classes that hold Python code, or that import or read what a description names."""
_MODEL_MODULES = {"Functional": "keras.src.models.functional", "Sequential": "keras"}
"""Where Keras 3 has the classes of models."""
_IGNORED = ("_initializer", "_regularizer", "_constraint")
"""Ends of the names of options that concern training alone."""
_KERAS_2_DEFAULTS = (("groups", 1), ("softmax_robust_masking", False))
"""Options of Keras 2 with the value that all layers of Keras 3 have, of which some lack the option."""
_KERAS_2_OPTIONS = ("query_shape", "key_shape", "value_shape")
"""Options in which Keras 2 notes shapes that Keras 3 finds out."""
_MAX_DEPTH = 64


def open_keras_model(path: Path, config: Mapping[str, Any], unknown: str) -> nn.Module:
    """Return the model of a ``.keras`` or HDF5 file of this description, with its weights.

    `unknown` says why it is no network that opens without Keras.

    Raises CheckpointError for a model with Python code or classes that are not Keras', if Keras is missing or uses
    another backend, and if Keras can't load the model.
    """
    if (name := next(_iterate_foreign_classes(config, 0), None)) is not None:
        raise CheckpointError(
            f"{path} has {name}, which is Python code, reads files or is not of Keras itself, and is not run"
        )
    keras = _import_keras(unknown)
    from surgery_tensorflow.keras_graph import KerasModel

    described = _adapt_description(config)
    try:
        kind = keras.Sequential if described["class_name"] == "Sequential" else keras.Model
        model = kind.from_config(described["config"])
        model.load_weights(str(path))
        return KerasModel(model, fixes_training=_is_of_keras_2(config))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # whatever Keras raises for a description or weights that don't fit
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"Keras can't load {path}: {type(error).__name__}: {reason}") from error


def _import_keras(unknown: str) -> Any:
    """Return Keras 3 with its torch backend. Raises CheckpointError if there is none."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
    except ImportError as error:
        raise CheckpointError(f"{unknown}; other models need Keras 3, which is missing: pip install keras") from error
    backend = keras.config.backend() if hasattr(keras, "config") else "tensorflow"
    if backend != "torch":
        raise CheckpointError(f"Keras uses the backend {backend}; set the environment variable KERAS_BACKEND=torch")
    return keras


def _is_of_keras_2(config: Mapping[str, Any]) -> bool:
    """Return whether Keras 2 wrote a description. There a layer may be in train mode whatever the mode of the model."""
    return str(config.get("keras_version", "")).startswith("2") or ".engine." in str(config.get("module"))


def _adapt_description(node: Any) -> Any:
    """Return a description as Keras 3 takes it, of a model that Keras 2 or 3 has described.

    Options that concern training alone, which may be TensorFlow's, are replaced. Keras 2 writes options that have no
    other value than their default, lists of one axis, and names with slashes.
    """
    if isinstance(node, list):
        return [_adapt_description(value) for value in node]
    if isinstance(node, str):
        return node.replace("/", "_")
    if not isinstance(node, dict):
        return node
    adapted: dict[str, Any] = {}
    if "module" in node and node.get("class_name") in _MODEL_MODULES:
        node = {**node, "module": _MODEL_MODULES[node["class_name"]]}
    for key, value in node.items():
        if key.endswith("_initializer"):
            adapted[key] = "zeros"
        elif key.endswith(_IGNORED):
            adapted[key] = None
        elif key == "axis" and isinstance(value, list) and len(value) == 1:
            adapted[key] = value[0]
        elif (key, value) not in _KERAS_2_DEFAULTS and not (key in _KERAS_2_OPTIONS and "num_heads" in node):
            adapted[key] = _adapt_description(value)
    return adapted


def _iterate_foreign_classes(node: Any, depth: int) -> Iterator[str]:
    """Yield the name of each object in a description that is not a class of Keras without code."""
    if depth > _MAX_DEPTH:
        yield "a description that is nested too deeply"
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _iterate_foreign_classes(value, depth + 1)
    elif isinstance(node, dict):
        if "class_name" in node and _is_foreign(node):
            config = node.get("config")
            name = config.get("name", "") if isinstance(config, dict) else ""
            yield f"{name or node['class_name']} ({node['class_name']})"[:80]
        for key, value in node.items():
            if not str(key).endswith(_IGNORED):
                yield from _iterate_foreign_classes(value, depth + 1)


def _is_foreign(node: Mapping[str, Any]) -> bool:
    kind, module, registered = node["class_name"], node.get("module"), node.get("registered_name")
    if kind in _CODE or not isinstance(kind, str):
        return True
    if kind in ("__keras_tensor__", "__tensor__", "__numpy__", "__tuple__"):
        return False
    if kind in ("Functional", "Model", "Sequential") and module is not None:
        return re.fullmatch(r"(tf_)?keras(\.models|\.src\.(models|engine)\.\w+)?", str(module)) is None
    if module is None and registered is None:  # as Keras 2 writes it
        return ">" in kind
    own = ("keras", "keras.layers", "keras.activations", "keras.dtype_policies", "keras.models")
    is_operation = isinstance(module, str) and module.startswith("keras.src.ops.")
    return not (module in own or is_operation) or str(registered or kind).rpartition(">")[2] != kind
