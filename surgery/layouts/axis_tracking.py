"""Following what the axes of values stand for, from operation to operation, while a graph runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx, nn

from surgery.graph import GraphInterpreter, is_extractor, target_name
from surgery.layouts.axes import BATCH, CHANNEL, DEPTH, HEIGHT, WIDTH, Axes, Call, Operand, named_axes, unknown_axes
from surgery.layouts.axis_inference import CHANNELS_FIRST_AXES, CHANNELS_LAST_KINDS, infer_axes, is_channels_first
from surgery.layouts.layout_decision import LayoutHints


class AxisTrackingModel:
    """Runs a rewritten model: node by node on a first input of a shape, to learn what axes its values have."""

    def __init__(self, opened: fx.GraphModule) -> None:
        self._opened = opened
        self._shape: tuple[tuple[int, ...], ...] | None = None
        self._axis_tracker = AxisTracker(opened)

    def run(self, *inputs: Tensor) -> Any:
        """What the model gives; an error is raised as the model raises it."""
        shape = tuple(tuple(values.shape) for values in inputs)
        if shape == self._shape:
            # Not a call: that would print the generated code when the model raises, and drop the traceback.
            return self._opened.forward(*inputs)
        self._shape = None
        self._axis_tracker = AxisTracker(self._opened)
        result = self._axis_tracker.run(*inputs)
        self._shape = shape
        return result

    def hints(self, name: str, key: str) -> LayoutHints:
        """What is known of a tensor in the value of the operation of this name."""
        return self._axis_tracker.hints(name, key)


MAX_SEARCHED_USERS = 12
"""How many operations behind a value are looked at for what takes it."""
CHANNELS_LAST_AXES = {
    3: (BATCH, "", CHANNEL),
    4: (BATCH, HEIGHT, WIDTH, CHANNEL),
    5: (BATCH, DEPTH, HEIGHT, WIDTH, CHANNEL),
}


class AxisTracker(GraphInterpreter):
    """Runs a graph as its code does, and knows of each value what its axes stand for before an extractor sees it."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False  # an error is to read as it does without
        self.axes: dict[str, Any] = {}
        """By the name of a node: the axes of its value, or of each tensor in it, nested as they are."""
        self.image_size: tuple[int, int] | None = None
        """Height and width of the first input that has four axes."""

    def axes_of(self, name: str, key: str) -> Axes | None:
        """What is known of a tensor: ``""`` for the value itself, ``"[0]"`` inside it."""
        found = self.axes.get(name)
        if not key:
            return found if isinstance(found, Axes) else None
        return dict(_iterate_axes(found)).get(key)

    def run(self, *args: Any, **options: Any) -> Any:
        """The value of the graph for these inputs."""
        try:
            return super().run(*args, **options)
        finally:
            self.env = {}

    def hints(self, name: str, key: str) -> LayoutHints:
        """What is known of a tensor in the value of the operation of this name."""
        return LayoutHints(self.axes_of(name, key), image_size=self.image_size)

    def run_node(self, n: fx.Node) -> Any:
        operands: tuple[Any, Any] = ((), {})
        if n.op.startswith("call_"):
            operands = self._operands(n.args), self._operands(n.kwargs)
        value = super().run_node(n) if not is_extractor_node(self.module, n) else self._run_extractor(n)
        if n.op == "output":
            self.axes[n.name] = self._axes_tree(n.args[0])
        elif n.name not in self.axes:
            self.axes[n.name] = self._axes_of(n, *operands, value)
        return value

    def _run_extractor(self, n: fx.Node) -> Any:
        self.axes[n.name] = self._axes_tree(n.args[0])
        return super().run_node(n)

    def _axes_tree(self, given: Any) -> Any:
        if isinstance(given, fx.Node):
            return self.axes.get(given.name)
        return tuple(map(self._axes_tree, given)) if isinstance(given, (tuple, list)) else None

    def _operands(self, given: Any) -> Any:
        """Arguments with an operand in the place of each tensor, before the operation can write to it."""
        if isinstance(given, fx.Node):
            return _pair_operands(self.env[given], self.axes.get(given.name))
        if isinstance(given, (tuple, list)):
            return tuple(map(self._operands, given))
        return {name: self._operands(each) for name, each in given.items()} if isinstance(given, Mapping) else given

    def _axes_of(self, n: fx.Node, args: Any, options: Any, value: Any) -> Any:
        if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
            return tuple(self._axes_of(n, args, options, each) for each in value)
        if not isinstance(value, Tensor):
            return None
        shape = tuple(value.shape)
        if n.op == "placeholder":
            return self._input_axes(n, shape)
        if not n.op.startswith("call_"):
            return unknown_axes(shape)
        kind = self._kind(n)
        if kind == "getitem" and not isinstance(args[0], Operand):
            found = args[0][args[1]] if isinstance(args[0], (tuple, dict)) else None
            return found.axes if isinstance(found, Operand) else unknown_axes(shape)
        if n.op == "call_module" and "norm" in kind:
            whole = getattr(self.fetch_attr(str(n.target)), "normalized_shape", None)
            options = {**options, "normalized_shape": whole}
        found = infer_axes(Call(kind, f"{_label(n)} ({kind})", args, options, shape))
        return found if found.is_known else self._axes_from_users(n, shape) or found

    def _input_axes(self, n: fx.Node, shape: tuple[int, ...]) -> Axes:
        """Of an input: as those take it that it is given to; four axes are those of an image, if nobody says more."""
        image = named_axes(shape, CHANNELS_FIRST_AXES[4], f"the input {n.name}") if len(shape) == 4 else None
        if image is not None and self.image_size is None:
            self.image_size = (shape[2], shape[3])
        return self._axes_from_users(n, shape) or image or unknown_axes(shape)

    def _axes_from_users(self, n: fx.Node, shape: tuple[int, ...]) -> Axes | None:
        """The axes that the next operation that says something of them takes a value to have."""
        waiting, seen = list(n.users), {n}
        while waiting and len(seen) < MAX_SEARCHED_USERS:
            user = waiting.pop(0)
            if user in seen or not user.op.startswith("call_"):
                continue
            seen.add(user)
            if is_extractor_node(self.module, user):
                waiting = [*user.users, *waiting]
                continue
            kind = self._kind(user)
            if is_channels_first(kind) and len(shape) in CHANNELS_FIRST_AXES:
                return named_axes(shape, CHANNELS_FIRST_AXES[len(shape)], f"{_label(user)} ({kind}), which takes it")
            if (
                kind in CHANNELS_LAST_KINDS
                and len(shape) in CHANNELS_LAST_AXES
                and not _normalizes_several_axes(user, self.module)
            ):
                return named_axes(shape, CHANNELS_LAST_AXES[len(shape)], f"{_label(user)} ({kind}), which takes it")
            if kind in AXIS_PRESERVING_KINDS:
                waiting += list(user.users)
        return None

    def _kind(self, n: fx.Node) -> str:
        if n.op == "call_module":
            return _kind_of(self.fetch_attr(str(n.target)))
        kind = target_name(n)
        if kind == "getattr" and len(n.args) > 1:
            return str(n.args[1]).lower()
        return kind


AXIS_PRESERVING_KINDS = frozenset(
    [
        *("relu", "gelu", "silu", "leakyrelu", "leaky_relu", "hardswish", "sigmoid", "tanh", "softmax", "identity"),
        *(
            "dropout",
            "stochastic_depth",
            "stochasticdepth",
            "droppath",
            "contiguous",
            "clone",
            "add",
            "sub",
            "mul",
            "roll",
        ),
    ]
)
"""What gives each value in the place where it was: who takes it says as much of the value before."""


def is_extractor_node(module: nn.Module, n: fx.Node) -> bool:
    """Whether a node of the graph is an inserted extractor."""
    return isinstance(module, fx.GraphModule) and is_extractor(module, n)


def _label(n: fx.Node) -> str:
    return str(n.target) if n.op == "call_module" else n.name


def _kind_of(module: nn.Module) -> str:
    """Of torch's own layers and what is derived from them, the kind; of a norm with a forward of its own, nothing."""
    kinds = [kind for kind in type(module).__mro__ if kind.__module__.startswith("torch.nn.")]
    own = type(module).__name__.lower()
    if not kinds or kinds[0] is nn.Module or own in CHANNELS_LAST_KINDS or is_channels_first(own):
        return own if kinds and kinds[0] is type(module) else f"{own} of its own"
    ours = kinds[0].__name__.lower()
    return ours if kinds[0] is type(module) or is_channels_first(ours) else own


def _normalizes_several_axes(n: fx.Node, module: nn.Module) -> bool:
    """Whether a layer norm takes more than the last axis together."""
    shape = n.args[1] if len(n.args) > 1 else n.kwargs.get("normalized_shape")
    if n.op == "call_module":
        shape = getattr(module.get_submodule(str(n.target)), "normalized_shape", None)
    return isinstance(shape, (tuple, list)) and len(shape) > 1


def _pair_operands(value: Any, axes: Any) -> Any:
    if isinstance(value, Tensor):
        shape = tuple(value.shape)
        fits = isinstance(axes, Axes) and axes.shape == shape
        return Operand(shape, axes if fits else unknown_axes(shape))
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        inner = axes if isinstance(axes, tuple) and len(axes) == len(value) else (None,) * len(value)
        return tuple(_pair_operands(each, known) for each, known in zip(value, inner, strict=True))
    return value


def _iterate_axes(tree: Any, key: str = "") -> Any:
    if isinstance(tree, Axes):
        yield key, tree
    elif isinstance(tree, tuple):
        for place, each in enumerate(tree):
            yield from _iterate_axes(each, f"{key}[{place}]")
