"""Runs of a graph that track the meaning of every value's axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any

from torch import Tensor, fx, nn

from surgery.graph import GraphInterpreter, call_arguments
from surgery.layouts.axes import Axes, named_axes, unknown_axes
from surgery.layouts.axis_inference import infer_axes
from surgery.layouts.layout_decision import NO_HINTS, LayoutHints
from surgery.layouts.operation_calls import Call, Operand
from surgery.layouts.operation_kinds import CHANNELS_FIRST_AXES, is_extractor_node, node_kind, node_label
from surgery.layouts.required_axes import find_required_axes


class AxisTrackingModel:
    """Runs a rewritten model, and tracks the axes of its values whenever the input shapes change."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._tracked_shapes: tuple[tuple[int, ...], ...] | None = None
        self._tracker = axis_tracker(model)

    def run(self, inputs: Mapping[str, Tensor]) -> Any:
        """Return the model's output for inputs by name. Raises the model's errors."""
        args, kwargs = call_arguments(self._model, inputs)
        if self._tracker is None:
            return self._model(*args, **kwargs)
        shapes = tuple(tuple(values.shape) for values in inputs.values())
        if shapes == self._tracked_shapes:
            # forward, since calling the module prints the generated code and drops the traceback if the model raises.
            return self._model.forward(*args, **kwargs)
        self._tracked_shapes = None
        self._tracker = axis_tracker(self._model) or self._tracker
        result = self._tracker.run(*args, **kwargs)
        self._tracked_shapes = shapes
        return result

    def hints(self, name: str, key: str) -> LayoutHints:
        """Return what is known about a tensor in the value of the operation of this name."""
        return NO_HINTS if self._tracker is None else self._tracker.hints(name, key)


@singledispatch
def axis_tracker(model: object) -> AxisTracker | None:  # noqa: ARG001
    """Return what runs a model and tracks axes; None for a model that is compiled, no graph, or has hooks."""
    return None


@axis_tracker.register(fx.GraphModule)
def _(model: fx.GraphModule) -> AxisTracker | None:
    hooks = (model._forward_hooks, model._forward_pre_hooks, model._backward_hooks, model._backward_pre_hooks)  # noqa: SLF001
    is_plain = type(model.graph._codegen) is fx.graph.CodeGen  # noqa: SLF001
    return AxisTracker(model) if is_plain and not any(hooks) else None


class AxisTracker(GraphInterpreter):
    """Runs a graph node by node. The axes of a value are known before an extractor receives it."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # errors read as they do without tracking
        self.axes: dict[str, Any] = {}
        """Node name -> the axes of its value, in nested tuples if the value contains several tensors."""
        self.image_size: tuple[int, int] | None = None
        """Height and width of the first input with four axes."""

    def run(self, *args: Any, **options: Any) -> Any:
        """Return the output of the graph for these inputs."""
        try:
            return super().run(*args, **options)
        finally:
            self.env = {}  # frees the values

    def hints(self, name: str, key: str) -> LayoutHints:
        """Return what is known about a tensor in the value of the operation of this name."""
        return LayoutHints(self._find_axes(name, key), image_size=self.image_size)

    def _find_axes(self, name: str, key: str) -> Axes | None:
        """Return the axes of a tensor in a node's value; None if they were not tracked.

        `key` is the tensor's place in the value: ``""`` for the value itself, ``"[0]"`` for the first of several.
        """
        axes = self.axes.get(name)
        if not key:
            return axes if isinstance(axes, Axes) else None
        return dict(_named_axes_in(axes)).get(key)

    def run_node(self, n: fx.Node) -> Any:
        if is_extractor_node(self.module, n):
            self.axes[n.name] = self._argument_axes(n.args[0])  # first, since the extractor's listener reads them
            return super().run_node(n)
        # Before the operation runs, since it may resize its arguments in place.
        args, options = self._operands(n.args), self._operands(n.kwargs)
        value = super().run_node(n)
        if n.op == "output":
            self.axes[n.name] = self._argument_axes(n.args[0])
        elif n.name not in self.axes:
            self.axes[n.name] = self._axes_of_value(n, args, options, value)
        return value

    def _argument_axes(self, argument: Any) -> Any:
        """Return the axes of the nodes in an argument, nested as they are."""
        if isinstance(argument, fx.Node):
            return self.axes.get(argument.name)
        return tuple(map(self._argument_axes, argument)) if isinstance(argument, (tuple, list)) else None

    def _operands(self, argument: Any) -> Any:
        """Return an argument with an `Operand` in place of each tensor."""
        if isinstance(argument, fx.Node):
            return _as_operands(self.env[argument], self.axes.get(argument.name))
        if isinstance(argument, (tuple, list)):
            return tuple(map(self._operands, argument))
        if isinstance(argument, Mapping):
            return {name: self._operands(value) for name, value in argument.items()}
        return argument

    def _axes_of_value(self, n: fx.Node, args: Any, options: Any, value: Any) -> Any:
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return tuple(self._axes_of_value(n, args, options, each) for each in value)
        if not isinstance(value, Tensor):
            return None
        shape = tuple(value.shape)
        if n.op == "placeholder":
            return self._input_axes(n, shape)
        if not n.op.startswith("call_"):
            return unknown_axes(shape)
        kind = node_kind(self.module, n)
        if kind == "getitem" and not isinstance(args[0], Operand):
            item = args[0][args[1]] if isinstance(args[0], (tuple, dict)) else None
            return item.axes if isinstance(item, Operand) else unknown_axes(shape)
        if n.op == "call_module" and "norm" in kind:
            normalized = getattr(self.fetch_attr(str(n.target)), "normalized_shape", None)
            options = {**options, "normalized_shape": normalized}
        axes = infer_axes(Call(kind, node_label(self.module, n), args, options, shape))
        return axes if axes.is_known else find_required_axes(self.module, n, shape) or axes

    def _input_axes(self, n: fx.Node, shape: tuple[int, ...]) -> Axes:
        """Return the axes that the operations on an input require, else those of an image if there are four."""
        image = named_axes(shape, CHANNELS_FIRST_AXES[4], f"the input {n.name}") if len(shape) == 4 else None
        if image is not None and self.image_size is None:
            self.image_size = (shape[2], shape[3])
        return find_required_axes(self.module, n, shape) or image or unknown_axes(shape)


def _as_operands(value: Any, axes: Any) -> Any:
    """Return a value with an `Operand` in place of each tensor. `axes` are nested like the value."""
    if isinstance(value, Tensor):
        shape = tuple(value.shape)
        fits = isinstance(axes, Axes) and axes.shape == shape
        return Operand(shape, axes if fits else unknown_axes(shape))
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        nested = axes if isinstance(axes, tuple) and len(axes) == len(value) else (None,) * len(value)
        return tuple(_as_operands(each, its_axes) for each, its_axes in zip(value, nested, strict=True))
    return value


def _named_axes_in(tree: Any, key: str = "") -> Iterator[tuple[str, Axes]]:
    """Yield each `Axes` in nested tuples with its key, such as ``[0][1]``."""
    if isinstance(tree, Axes):
        yield key, tree
    elif isinstance(tree, tuple):
        for place, each in enumerate(tree):
            yield from _named_axes_in(each, f"{key}[{place}]")
