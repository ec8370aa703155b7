"""The tracer of models: a `torch.fx.Tracer` that records more, and notes hazards."""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from surgery.errors import TraceError
from surgery.graph import (
    Hazard,
    InPlaceTracer,
    find_user_line,
    format_location,
    is_leaf_by_default,
    list_modules,
    matches_leaf,
    mutated_nodes,
    run_model,
)
from surgery.graph import autograd_functions as functions
from surgery.tracing.cached_values import find_kept_constants
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.proxies import make_proxy
from surgery.tracing.proxy_types import infer_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.eager import ExampleInputs
    from surgery.graph import Leaves

HOLDER = "model"
"""The name of the model in the module that holds it while it is traced."""


class ModelTracer(InPlaceTracer):
    """Records one call of a model, which is the only child of a holder module.

    `torch.fx.Tracer.trace` calls the `forward` of its root, and so loses the hooks of the root. Here the root is the
    holder, and the model is called as any child is, with its hooks. `surgery.tracing.recording` installs and removes
    the overrides of torch and Python.
    """

    def __init__(self, inputs: ExampleInputs, leaves: Leaves) -> None:
        super().__init__()
        self.inputs = inputs
        self.example_types = {name: type(value) for name, value in (inputs.example or {}).items()}
        self.leaves = leaves
        self.graph = fx.Graph(tracer_cls=type(self))
        self.is_finished = False
        """Whether the graph is complete. A proxy that is used afterwards was stored by the model."""
        self._state_paths: dict[int, tuple[Tensor, str]] = {}
        """Parameters and buffers by their identity, each with its path in the holder."""
        self._state_proxies: dict[str, fx.Proxy] = {}

        self.hazards: list[Hazard] = []
        self.leaf_paths: set[str] = set()
        """Paths of the modules that are one operation each."""
        self.traced_paths: set[str] = set()
        """Paths of the modules that were traced into."""
        self.assigned_attributes: set[str] = set()
        """Names of attributes that the model assigned to values, such as ``x.scale = 2``."""
        self.proxy_texts: list[tuple[str, tuple[str, int] | None]] = []
        """Texts of proxies that the model made, and the lines that made them."""
        self.written_nodes: set[fx.Node] = set()
        """Nodes whose values an operation writes to, and the nodes that these are views of."""
        self.assignment_lines: dict[tuple[nn.Module, str], tuple[str, int] | None] = {}
        """For each attribute that the model assigned in its modules, the line that did so first."""
        self.cached_nodes: set[fx.Node] = set()
        """Nodes whose values were results of a function with an `lru_cache`."""

    def attach(self, holder: nn.Module) -> None:
        """Make a holder the root of the next graph."""
        self.root = holder
        self.root_module_name = type(holder).__name__
        modules = list_modules(holder)
        self.modules, self.parameters = {module for _, module in modules}, dict(holder.named_parameters())
        self.state = {**self.parameters, **dict(holder.named_buffers())}
        self.submodule_paths = {module: path for path, module in modules}
        self.tensor_attrs = {
            value: f"{path}.{name}" if path else name
            for path, module in modules
            for name, value in vars(module).items()
            if isinstance(value, (Tensor, torch.ScriptObject))
        }

    def record_call(self) -> fx.Graph:
        """Call the model in the attached holder with proxies, and return the graph of that call.

        This replaces `torch.fx.Tracer.trace`, whose overrides of `nn.Module` hold for all threads of the process.
        """
        self.graph = fx.Graph(tracer_cls=type(self))
        last = max((n for n, name in enumerate(self.inputs.names) if name not in self.inputs.settings), default=-1)
        values = {name: self._placeholder(name, optional=n > last) for n, name in enumerate(self.inputs.names)}
        for name, expected in self.inputs.settings.items():
            self.create_proxy("call_function", functions.check_setting, (values[name], expected, name), {})
        positional, keywords = self.inputs.split({**values, **self.inputs.settings})
        value = run_model(self.root.get_submodule(HOLDER), positional, keywords)
        self.create_node("output", "output", (self.create_arg(value),), {})
        self.is_finished = True
        return self.graph

    def _placeholder(self, name: str, *, optional: bool) -> fx.Proxy:
        """Create an input of the graph. A setting may be left out where no other input follows it."""
        return self.create_proxy("placeholder", name, (self.inputs.settings[name],) if optional else (), {})

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:  # noqa: ARG002
        """Return the proxy of a parameter or buffer that the model reads as an attribute; any other value as it is."""
        proxy = self.find_state_proxy(attr_val) if isinstance(attr_val, Tensor) else None
        return attr_val if proxy is None else proxy

    def find_state_tensor(self, proxy: fx.Proxy) -> Tensor | None:
        """Return the parameter or buffer that a proxy represents; None for any other proxy."""
        node = None if isinstance(proxy, fx.proxy.Attribute) else proxy.node
        return self.state.get(str(node.target)) if node is not None and node.op == "get_attr" else None

    def find_state_proxy(self, tensor: Tensor) -> fx.Proxy | None:
        """Return the proxy of a parameter or buffer of the model; None for any other tensor."""
        entry = self._state_paths.get(id(tensor))
        if entry is None:  # the model may have registered it meanwhile
            state = {**dict(self.root.named_parameters()), **dict(self.root.named_buffers())}
            self._state_paths |= {id(value): (value, path) for path, value in state.items()}
            entry = self._state_paths.get(id(tensor))
        if entry is None:
            return None
        path = entry[1]
        if path not in self._state_proxies:
            self._state_proxies[path] = self.create_proxy("get_attr", path, (), {})
        return self._state_proxies[path]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is recorded as one operation.

        Modules of torch, TorchScript and einops, and the chosen leaves are.
        """
        path = without_holder(module_qualified_name)
        is_chosen = bool(path) and any(matches_leaf(leaf, m, path) for leaf in self.leaves)
        is_one_operation = is_chosen or is_leaf_by_default(m, path)
        (self.leaf_paths if is_one_operation else self.traced_paths).add(path)
        return is_one_operation

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record a call of a module. A module created inside forward has no path, so it is traced into."""
        if m in self.modules:
            return super().call_module(m, forward, args, kwargs)
        return forward(*args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        """Return an argument as the graph stores it, including values that torch.fx rejects or changes."""
        if isinstance(a, torch.Generator):
            raise TypeError("the model uses its own torch.Generator, which a graph can't store")
        if isinstance(a, fx.Proxy) and a.tracer is not self:
            raise TraceError(_EARLIER_RUN)
        if type(a) is OrderedDict:  # torch.fx would make it a dict
            return self.create_proxy("call_function", OrderedDict, (list(a.items()),), {}).node
        return super().create_arg(a.item() if isinstance(a, np.generic) else a)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Create a node with the user's line, and record a hazard if it writes to a parameter or a cached result."""
        if self.is_finished:
            raise TraceError(_EARLIER_RUN)
        node = super().create_node(*args, **kwargs)
        node.meta["surgery_source"] = find_user_line(sys._getframe(1))  # noqa: SLF001
        for written in mutated_nodes(node, self.root):
            self.written_nodes.add(written)
            if written in self.cached_nodes:
                what = (
                    "the result of a function with a cache is modified in place, and the change persists between runs"
                )
                self.note_hazard("attribute", what, "write to a copy of it")
            elif written.op == "get_attr" and str(written.target) in self.parameters:
                self.note_parameter_write(str(written.target))
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            self.note_parameter_write(f"{node.target}.weight")  # it is renormalized in place
        return node

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return make_proxy(node, self)

    def infer_type(self, proxy: fx.Proxy) -> type | None:
        """Return the type of the value that a proxy represents; None if it can't be inferred.

        Raises TraceError for a number that is an input of the graph: another run may give another type.
        """
        kind = infer_type(proxy, self.root, self.example_types)
        if kind in (int, float, complex) and "node" in vars(proxy) and proxy.node.op == "placeholder":
            raise TraceError(f"forward checks the type of {proxy.node.target}, which is a number in the example")
        return kind

    def note_hazard(self, kind: Any, what: str, remedy: str) -> None:
        """Record a hazard that may change what the model computes, with the user's line that is running."""
        source = format_location(find_user_line(sys._getframe(1)))  # noqa: SLF001
        self.hazards.append(Hazard(kind, source, what, remedy, changes_result=True))

    def note_parameter_write(self, name: str) -> None:
        """Record a hazard: forward writes to a parameter."""
        path = without_holder(name)
        what = f"forward writes to the parameter {path}, which the traced model shares with the model"
        self.note_hazard("parameter", what, "write to a copy of it, or make it a buffer")

    def note_cached_result(self, value: Any) -> Any:
        """Remember which nodes are in the result of a function with a cache, and return the result."""
        fx.node.map_aggregate(
            value, lambda item: self.cached_nodes.add(item.node) if isinstance(item, fx.Proxy) else None
        )
        return value

    def note_texts(self) -> None:
        """Record a hazard for each text that the model made of a proxy, since a branch or a value may depend on it.

        The text is that of the proxy, whatever the value is. The messages of assertions may contain it, and so may the
        keys under which the model keeps constants.
        """
        if not self.proxy_texts:
            return
        asserted = [node for node in self.graph.nodes if node.target is torch._assert]  # noqa: SLF001
        harmless = [str(text) for node in asserted for text in (*node.args, *node.kwargs.values())]
        harmless += [str(key) for _, key, _ in find_kept_constants(self.root, self.graph, self.written_nodes)]
        uses = Counter(text for text, _ in self.proxy_texts)
        for text, line in dict(self.proxy_texts).items():
            if uses[text] > sum(message.count(text) for message in harmless):
                what = "a text is made of a value that is not known while tracing, and the graph holds one text"
                self.hazards.append(Hazard("text", format_location(line), what, KEEP_WHOLE, changes_result=True))


_EARLIER_RUN = "forward uses a value stored during an earlier run; recompute it"


def without_holder(path: str) -> str:
    """Return a path in the holder as a path in the model."""
    return path.removeprefix(HOLDER).removeprefix(".")
