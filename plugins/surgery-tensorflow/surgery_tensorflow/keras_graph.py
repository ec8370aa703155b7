"""A model of Keras as modules: one for each layer, with the layer's variables as parameters and buffers.

A layer is called as a function of its variables (Keras' `stateless_call`), so a call leaves nothing behind, and copies
of a module can share the layer. Maps pass between modules as ``(B, C, H, W)``, and a layer gets them as
``(B, H, W, C)``, as Keras has them: both are views of the same memory.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from surgery.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class _Reference:
    """The value of a call, in the arguments of another one."""

    name: str


@dataclass(frozen=True, slots=True)
class _Call:
    module: str
    """The name of the layer."""
    result: str
    arguments: Any
    options: Any


class _Shared:
    """Holds a layer that copies of a module have in common."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __deepcopy__(self, memo: object) -> _Shared:
        return self


class KerasLayer(nn.Module):
    """One layer, which is one operation. Its class has the name of the layer's class, from `build_module`."""

    is_operation = True

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._shared = _Shared(layer)
        self._takes_training = "training" in inspect.signature(layer.call).parameters
        self._trained = self._add_variables(getattr(layer, "trainable_variables", ()), is_trained=True)
        self._other = self._add_variables(getattr(layer, "non_trainable_variables", ()), is_trained=False)

    def _add_variables(self, variables: Sequence[Any], *, is_trained: bool) -> list[str]:
        names: list[str] = []
        for variable in variables:
            name = variable.name.replace(".", "_")
            name = name if not hasattr(self, name) else f"{name}_{len(self._parameters) + len(self._buffers)}"
            values = variable.value.detach().clone()
            if is_trained and values.is_floating_point():
                self.register_parameter(name, nn.Parameter(values))
            else:
                self.register_buffer(name, values)
            names.append(name)
        return names

    def forward(self, *inputs: Any, **options: Any) -> Any:
        layer = self._shared.layer
        inputs, options = _map_tensors(inputs, _to_channels_last), _map_tensors(options, _to_channels_last)
        if self._takes_training:
            options.setdefault("training", self.training)  # some models fix it for a layer
        if hasattr(layer, "stateless_call"):
            trained, other = ([getattr(self, name) for name in names] for names in (self._trained, self._other))
            output = layer.stateless_call(trained, other, *inputs, **options)[0]
        else:  # an operation without variables
            output = layer.call(*inputs, **options)
        return _map_tensors(output, _to_channels_first)


class KerasGraph(nn.Module):
    """A functional or sequential model: modules under the names of its layers, called when their inputs are known."""

    def __init__(self, model: Any, *, fixes_training: bool) -> None:
        """`fixes_training` says whether layers keep the mode in which a model's description calls them."""
        super().__init__()
        config = model.get_config()
        if "input_layers" in config:
            layers = {layer.name: layer for layer in model.operations}
            self._inputs = [f"{name}/0" for name in _iterate_layer_names(config["input_layers"])]
            self._outputs = _parse_outputs(config["output_layers"])
            calls = _iterate_calls(config["layers"], () if fixes_training else ("training",))
            self._calls = _sort_calls(list(calls), self._inputs)
        else:
            layers = {layer.name: layer for layer in model.layers}
            names = [f"{name}/0" for name in layers]
            self._inputs, self._outputs = ["input/0"], _Reference(names[-1] if names else "input/0")
            sources = ["input/0", *names]
            self._calls = [
                _Call(name, f"{name}/0", [_Reference(source)], {})
                for name, source in zip(layers, sources, strict=False)
            ]
        for name in dict.fromkeys(call.module for call in self._calls):
            self.add_module(name, build_module(layers[name], fixes_training=fixes_training))

    def forward(self, *inputs: Any) -> Any:
        values = dict(zip(self._inputs, inputs, strict=True))
        for call in self._calls:
            arguments, options = (_fill(each, values) for each in (call.arguments, call.options))
            values[call.result] = self.get_submodule(call.module)(*arguments, **options)
        return _fill(self._outputs, values)


class KerasModel(KerasGraph):
    """A model of Keras that takes one value, ``(B, C, H, W)`` for maps. Raises CheckpointError if it takes several."""

    def __init__(self, model: Any, *, fixes_training: bool) -> None:
        super().__init__(model, fixes_training=fixes_training)
        if len(self._inputs) != 1:
            raise CheckpointError(f"the model {model.name} takes {len(self._inputs)} inputs, and only one is supported")
        shape = tuple(model.inputs[0].shape)
        self.in_channels = 3
        if len(shape) == 4:
            self.in_channels = shape[3] or 3
            if shape[1] and shape[2]:
                self.size = (shape[1], shape[2])

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


def build_module(layer: Any, *, fixes_training: bool) -> nn.Module:
    """Return the module of a layer or of a model within a model."""
    if hasattr(layer, "layers") and hasattr(layer, "get_config"):
        return KerasGraph(layer, fixes_training=fixes_training)
    kind = type(layer).__name__
    return type(kind, (KerasLayer,), {"__module__": __name__})(layer)  # type: ignore[no-any-return]


def _iterate_calls(layers: Sequence[Mapping[str, Any]], ignored: Sequence[str]) -> Iterator[_Call]:
    for layer in layers:
        for number, node in enumerate(layer["inbound_nodes"]):
            arguments, options = _parse(node["args"]), _parse(node["kwargs"])
            options = {key: value for key, value in options.items() if value is not None and key not in ignored}
            yield _Call(layer["name"], f"{layer['name']}/{number}", arguments, options)


def _sort_calls(calls: list[_Call], known: Sequence[str]) -> list[_Call]:
    """Return calls in an order in which each one's inputs are known."""
    known_values, ordered = set(known), []
    while calls:
        ready = [call for call in calls if _references((call.arguments, call.options)) <= known_values]
        if not ready:
            raise CheckpointError(f"the layer {calls[0].module} takes a value that no layer computes")
        ordered += ready
        known_values |= {call.result for call in ready}
        calls = [call for call in calls if call.result not in known_values]
    return ordered


def _parse(node: Any) -> Any:
    """Return described arguments with a reference for each value of another layer."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            name, number, place = node["config"]["keras_history"]
            if place:
                raise CheckpointError(f"the layer {name} has several outputs, which is not supported")
            return _Reference(f"{name}/{number}")
        return {key: _parse(value) for key, value in node.items()}
    return [_parse(value) for value in node] if isinstance(node, (list, tuple)) else node


def _parse_outputs(node: Any) -> Any:
    """Return the references of a model's outputs, in the nesting of its description."""
    if isinstance(node, dict):
        return {key: _parse_outputs(value) for key, value in node.items()}
    if len(node) == 3 and isinstance(node[0], str):
        return _Reference(f"{node[0]}/{node[1]}")
    parsed = [_parse_outputs(value) for value in node]
    return parsed[0] if len(parsed) == 1 else parsed


def _iterate_layer_names(node: Any) -> Iterator[str]:
    """Yield the names of layers in nested descriptions ``[name, 0, 0]``."""
    if isinstance(node, dict):
        node = list(node.values())
    if len(node) == 3 and isinstance(node[0], str):
        yield node[0]
    else:
        for value in node:
            yield from _iterate_layer_names(value)


def _references(node: Any) -> set[str]:
    if isinstance(node, _Reference):
        return {node.name}
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return set().union(*map(_references, values))


def _fill(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, _Reference):
        return values[node.name]
    if isinstance(node, dict):
        return {key: _fill(value, values) for key, value in node.items()}
    return [_fill(value, values) for value in node] if isinstance(node, (list, tuple)) else node


def _map_tensors(node: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        return function(node)
    if isinstance(node, dict):
        return {key: _map_tensors(value, function) for key, value in node.items()}
    return type(node)(_map_tensors(value, function) for value in node) if isinstance(node, (list, tuple)) else node


def _to_channels_last(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value


def _to_channels_first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value
