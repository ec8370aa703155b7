"""Whether Keras' description of a model is that of a network of the tutorial, and with which settings.

The description lists layers with their options and inputs. It is evaluated to one expression of operations, which is
compared with that of the network: shapes alone do not tell the order of a concatenation, or where an activation is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from surgery_tensorflow.stored_values import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MAX_LAYERS, _MAX_DEPTH = 20_000, 16
_MODELS = ("Functional", "Model", "Sequential")


class OtherNetworkError(Exception):
    """The description is not that of a network of the tutorial; the message is a class or an option of a layer."""


def describe_model_class(config: Mapping[str, Any]) -> str:
    """Return the name of a described model's class."""
    return str(config.get("class_name", "model"))[:40]


def iterate_layers(config: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the description of each layer in a model, and in the models within it."""
    layers = config["config"].get("layers", ()) if isinstance(config.get("config"), Mapping) else ()
    for layer in layers if isinstance(layers, list) and depth <= _MAX_DEPTH else ():
        if isinstance(layer, Mapping):
            yield layer
            yield from iterate_layers(layer, depth + 1)


def read_unet_settings(config: Mapping[str, Any], depth: int, *, has_norms: bool) -> Settings:
    """Return the settings of a described U-Net of this depth. Raises OtherNetworkError if it is another network."""
    found = _Expressions()
    made = found.evaluate_model(config)
    x, skips, norms = found.input(0), [], iter(range(4 * depth))
    for level in range(depth):
        x = found.operation("conv", level, (2, 2), "same", x)
        x = found.operation("norm", next(norms), x) if level and has_norms else x
        x = found.operation("leaky", x)
        skips.append(x)
    for level in range(depth - 1):
        x = found.operation("deconv", level, (2, 2), "same", x)
        x = found.operation("norm", next(norms), x) if has_norms else x
        x = found.operation("cat", found.operation("relu", x), skips[depth - 2 - level])
    x = found.operation("tanh", found.operation("deconv", depth - 1, (2, 2), "same", x))
    return found.settings(made, x)


def read_patchgan_settings(config: Mapping[str, Any], convolutions: int, *, has_norms: bool) -> Settings:
    """Return the settings of a described PatchGAN, as `read_unet_settings` does."""
    found = _Expressions()
    made = found.evaluate_model(config)
    x = found.input(0) if found.inputs < 2 else found.operation("cat", found.input(0), found.input(1))
    for number in range(convolutions):
        if number < convolutions - 2:
            x = found.operation("conv", number, (2, 2), "same", x)
        else:
            x = found.operation("conv", number, (1, 1), "valid", found.operation("pad", x))
        if number < convolutions - 1:
            x = found.operation("norm", number - 1, x) if number and has_norms else x
            x = found.operation("leaky", x)
    return found.settings(made, x)


class _Expressions:
    """Operations with their inputs, each with a number, so that equal expressions have equal numbers."""

    def __init__(self) -> None:
        self.inputs = 0
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._counts = {"conv": 0, "deconv": 0, "norm": 0}
        self._layers = 0
        self._slopes: set[float] = set()
        self._epsilons: set[float | None] = set()
        self._dropouts: dict[int, float] = {}

    def operation(self, *operation: Any) -> int:
        return self._numbers.setdefault(operation, len(self._numbers))

    def input(self, number: int) -> int:
        return self.operation("input", number)

    def settings(self, made: int, expected: int) -> Settings:
        """Return the settings that were found. Raises OtherNetworkError if the expressions differ."""
        if made != expected:
            raise OtherNetworkError("its layers are connected in another way")
        if len(self._slopes) > 1 or len(self._epsilons) > 1:
            raise OtherNetworkError("its layers have several slopes or epsilons")
        slope, epsilon = next(iter(self._slopes), 0.3), next(iter(self._epsilons), None)
        most = max(self._dropouts, default=0)
        return Settings(slope, epsilon, tuple(self._dropouts.get(number, 0.0) for number in range(1, most + 1)))

    def evaluate_model(self, model: Mapping[str, Any]) -> int:
        """Return the expression of a described model. Raises OtherNetworkError for layers of other kinds."""
        try:
            return self._evaluate(model, [], 0)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise OtherNetworkError("its description has another form") from error

    def _evaluate(self, layer: Mapping[str, Any], inputs: list[int], depth: int) -> int:
        self._layers += 1
        if self._layers > _MAX_LAYERS or depth > _MAX_DEPTH:
            raise OtherNetworkError("it has too many layers")
        kind, config = layer["class_name"].rpartition(">")[2], layer["config"]  # as in Custom>InstanceNormalization
        if kind == "Sequential":
            layers = [each for each in config["layers"] if each["class_name"] != "InputLayer"]
            x = inputs[0] if inputs else self._new_input()
            for each in layers:
                x = self._evaluate(each, [x], depth + 1)
            return x
        if kind in _MODELS:
            return self._evaluate_graph(config, inputs, depth)
        return self._evaluate_operation(kind, config, inputs)

    def _evaluate_graph(self, config: Mapping[str, Any], inputs: list[int], depth: int) -> int:
        values: dict[str, int] = {}
        given = iter(inputs)
        for layer in config["layers"]:
            name = layer.get("name") or layer["config"]["name"]
            if layer["class_name"] == "InputLayer":
                values[name] = next(given) if inputs else self._new_input()
                continue
            if len(layer["inbound_nodes"]) != 1:
                raise OtherNetworkError("a layer is called several times")
            sources = list(_iterate_sources(layer["inbound_nodes"], 0))
            values[name] = self._evaluate(layer, [values[source] for source in sources], depth + 1)
        return values[next(_iterate_names(config["output_layers"]))]

    def _evaluate_operation(self, kind: str, config: Mapping[str, Any], inputs: list[int]) -> int:
        if kind in ("Conv2D", "Conv2DTranspose"):
            return self._evaluate_convolution("conv" if kind == "Conv2D" else "deconv", config, inputs)
        if kind in ("BatchNormalization", "InstanceNormalization"):
            return self._evaluate_norm(kind, config, inputs)
        if kind == "Activation":
            return self._activate(config["activation"], inputs[0])
        if kind in ("Dropout", "SpatialDropout2D"):
            self._dropouts[self._counts["deconv"]] = float(config["rate"])
            return inputs[0]
        return self.operation(self._name_plain(kind, config), *inputs)

    def _name_plain(self, kind: str, config: Mapping[str, Any]) -> str:
        """Return the name of an operation without weights. Raises OtherNetworkError for those of no known network."""
        name = ""
        if kind == "LeakyReLU":
            self._slopes.add(float(config["negative_slope"] if "negative_slope" in config else config["alpha"]))
            name = "leaky"
        elif kind == "ReLU" and not any(map(config.get, ("negative_slope", "threshold", "max_value"))):
            name = "relu"
        elif kind == "ZeroPadding2D" and config["padding"] in ([[1, 1], [1, 1]], [1, 1], 1):
            name = "pad"
        elif kind == "Concatenate" and config.get("axis", -1) in (-1, 3):
            name = "cat"
        if not name:
            raise OtherNetworkError(f"it has a layer {kind[:60]}")
        return name

    def _evaluate_norm(self, kind: str, config: Mapping[str, Any], inputs: list[int]) -> int:
        self._epsilons.add(float(config.get("epsilon", 1e-3 if kind == "BatchNormalization" else 1e-5)))
        if config.get("axis", -1) not in (-1, 3, [-1], [3]):
            raise OtherNetworkError(f"a {kind} is of another axis")
        return self._counted("norm", *inputs)

    def _evaluate_convolution(self, kind: str, config: Mapping[str, Any], inputs: Sequence[int]) -> int:
        plain = (
            list(config["dilation_rate"]) == [1, 1]
            and config.get("groups", 1) == 1
            and config.get("data_format") in (None, "channels_last")
            and config.get("output_padding") is None
        )
        if not plain:
            raise OtherNetworkError("a convolution has dilation, groups or channels first")
        x = self._counted(kind, tuple(config["strides"]), config["padding"], *inputs)
        return self._activate(config["activation"], x)

    def _activate(self, activation: Any, x: int) -> int:
        if activation in (None, "linear"):
            return x
        if activation in ("relu", "tanh"):
            return self.operation(activation, x)
        raise OtherNetworkError(f"it has an activation {str(activation)[:60]}")

    def _counted(self, kind: str, *rest: Any) -> int:
        number = self._counts[kind]
        self._counts[kind] += 1
        return self.operation(kind, number, *rest)

    def _new_input(self) -> int:
        self.inputs += 1
        return self.input(self.inputs - 1)


def _iterate_sources(node: Any, depth: int) -> Iterator[str]:
    """Yield the names of the layers whose values a layer takes: ``[name, 0, 0, {}]``, or in Keras 3 `keras_history`."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(node, Mapping):
        history = node.get("keras_history")
        if history is not None:
            yield history[0]
            return
        for value in node.values():
            yield from _iterate_sources(value, depth + 1)
    elif isinstance(node, list):
        if len(node) >= 3 and isinstance(node[0], str) and isinstance(node[1], int):
            yield node[0]
            return
        for value in node:
            yield from _iterate_sources(value, depth + 1)


def _iterate_names(node: Any) -> Iterator[str]:
    """Yield the texts in nested lists."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for value in node:
            yield from _iterate_names(value)
