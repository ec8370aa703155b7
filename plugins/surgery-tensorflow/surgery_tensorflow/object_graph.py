"""The models in a tensor bundle: found in the graph of objects of TensorFlow 2, or by the names of TensorFlow 1.

In TensorFlow 2 a bundle holds a graph: nodes are Python's objects, edges are their attributes, and some nodes are
variables with the key of their tensor (tensorflow/core/protobuf/trackable_object_graph.proto). Keys alone do not tell a
model's variables: the optimizer of Keras 3 holds them as well, and a key is the first way to a variable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from surgery.errors import CheckpointError
from surgery_tensorflow.protobuf import DamagedMessageError, as_bytes, as_number, as_text, iterate_fields
from surgery_tensorflow.stored_values import StoredLayer, StoredModel, StoredVariable, natural_key, order_by_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from surgery_tensorflow.bundle import Bundle

GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"
_INSIDE_OF_MODELS = re.compile(r"layer(_with_weights)?-\d+|_operations|_layers|_functional|(_all_)?variables|layers")
"""Attributes of Keras' models; an object that has one is a model."""
_LISTS_OF_VARIABLES = re.compile(r"_?(all_|non_)?(trainable_)?(variables|weights)")
"""Attributes that list variables, to which others lead as well. In exports there are no others."""
_NOT_OF_MODELS = re.compile(
    r".*optim.*|keras_api|signatures|_?metrics|.*_tracker|save_counter|root|serve", re.IGNORECASE
)
_MAX_DEPTH = 64


@dataclass(slots=True)
class _Node:
    children: list[tuple[str, int]] = field(default_factory=list)
    key: str = ""
    """The key of its tensor, for a variable."""
    full_name: str = ""
    """The name that the variable had in Python: ``sequential_1/conv2d_1/kernel``."""


def find_models(bundle: Bundle) -> list[StoredModel]:
    """Return the models in a bundle, without optimizers; each is named as its attribute of `tf.train.Checkpoint`.

    Raises CheckpointError for a damaged graph.
    """
    variables = bundle.variables()
    message = bundle.read_string(GRAPH_KEY)
    if message is None:
        return group_by_names(variables)
    try:
        nodes = [_read_node(as_bytes(value)) for number, value in iterate_fields(message) if number == 1]
    except DamagedMessageError as error:
        raise CheckpointError(f"{bundle.index}: its graph of objects is damaged: {error}") from error
    if not nodes:
        return group_by_names(variables)
    if any(_INSIDE_OF_MODELS.fullmatch(name) for name, _ in nodes[0].children):
        roots = [("", 0)]
    else:
        roots = [(name, number) for name, number in nodes[0].children if not _NOT_OF_MODELS.fullmatch(name)]
    return _with_weights(StoredModel(name, _collect_layers(nodes, number, variables)) for name, number in roots)


def group_by_names(variables: Mapping[str, StoredVariable]) -> list[StoredModel]:
    """Return the models of variables that have names such as ``generator/encoder_1/conv2d/kernel``.

    What an optimizer keeps for a variable has the variable's name and another behind it, and is left out.
    """
    layers: dict[str, dict[str, StoredVariable]] = {}
    for name in sorted(variables, key=natural_key):
        path, _, variable = name.rpartition("/")
        if path in variables:
            continue
        layers.setdefault(path, {})[variable] = variables[name]
    by_model: dict[str, list[StoredLayer]] = {}
    for path, found in layers.items():
        name, _, inner = path.partition("/")
        if re.search(r"optim|_train$", name, re.IGNORECASE) is None:
            by_model.setdefault(name, []).append(StoredLayer(inner, found))
    return _with_weights(StoredModel(name, tuple(layers)) for name, layers in by_model.items())


def _with_weights(models: Iterable[StoredModel]) -> list[StoredModel]:
    """Return the models that have more than numbers and vectors, such as counters and averages of losses."""
    return [
        model
        for model in models
        if any(len(variable.shape) > 1 for layer in model.layers for variable in layer.variables.values())
    ]


def _read_node(message: bytes) -> _Node:
    node = _Node()
    for number, value in iterate_fields(message):
        if number == 1:
            edge = dict(iterate_fields(as_bytes(value)))
            node.children.append((as_text(edge.get(2, b"")), as_number(edge.get(1, 0))))
        elif number == 2:
            attribute = dict(iterate_fields(as_bytes(value)))
            if as_text(attribute.get(1, b"")) == "VARIABLE_VALUE":
                node.full_name = as_text(attribute.get(2, b""))
                node.key = as_text(attribute.get(3, b""))
    return node


def _collect_layers(nodes: list[_Node], root: int, variables: Mapping[str, StoredVariable]) -> tuple[StoredLayer, ...]:
    layers: dict[str, dict[str, StoredVariable]] = {}
    listed: dict[str, dict[str, StoredVariable]] = {}
    for path, node in _walk(nodes, root):
        if node.key not in variables:
            continue
        place, _, name = path.rpartition("/")
        if name.isdecimal():  # in a list of variables, which tells nothing of their layers
            place, _, name = node.full_name.partition(":")[0].rpartition("/")
            listed.setdefault(place, {})[name] = variables[node.key]
        else:
            layers.setdefault(place, {})[name.lstrip("_")] = variables[node.key]
    layers |= {place: listed[place] for place in order_by_names(listed)}
    return tuple(StoredLayer(path, found) for path, found in layers.items())


def _walk(nodes: list[_Node], root: int) -> Iterator[tuple[str, _Node]]:
    """Yield each object that belongs to a model once, with its path: in the order of layers, and lists at the end."""
    seen: set[int] = set()
    stack = [("", root, 0)]
    while stack:
        path, number, depth = stack.pop()
        if number in seen or number >= len(nodes) or depth > _MAX_DEPTH:
            continue
        seen.add(number)
        node = nodes[number]
        yield path, node
        children = [(name, child) for name, child in node.children if not _NOT_OF_MODELS.fullmatch(name)]
        children.sort(key=lambda child: (_LISTS_OF_VARIABLES.fullmatch(child[0]) is not None, natural_key(child[0])))
        stack += [(f"{path}/{name}" if path else name, child, depth + 1) for name, child in reversed(children)]
