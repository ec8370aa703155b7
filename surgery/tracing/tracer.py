"""The tracer of models: torch.fx's, and what it would lose or freeze recorded as well, or at least noticed."""

from __future__ import annotations

import sys
from collections import OrderedDict
from contextlib import ExitStack, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from surgery.eager import fresh_caches
from surgery.errors import TraceError
from surgery.graph import Hazard, InPlaceTracer, find_user_line, format_location, mutated_nodes, run_model
from surgery.graph import autograd_functions as functions
from surgery.tracing.builtin_overrides import answered
from surgery.tracing.function_mode import FACTORIES, Calls
from surgery.tracing.proxies import ModelProxy, texts_in, type_of
from surgery.tracing.swallowed_errors import seen_errors
from surgery.tracing.torch_overrides import torch_overridden

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surgery.eager import Kept
    from surgery.tracing.example_inputs import Inputs

HOLDER = "model"
"""What a model is called in the module that holds it while it is traced."""

_WHOLE = "keep the module around it whole with leaves=[...]"


class ModelTracer(InPlaceTracer):
    """Traces a holder of a model, so that the model itself is called, with its hooks."""

    def __init__(
        self,
        inputs: Inputs,
        leaves: Sequence[object],
        *,
        factories: bool,
        settings: bool,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.types = {name: type(value) for name, value in (inputs.example or {}).items()}
        self.settings = {name: value for name, value in inputs.settings.items() if settings or value is None}
        """The inputs that are part of the graph, as the example gives them."""
        self.graph = fx.Graph(tracer_cls=type(self))
        self.leaves = leaves
        self.leaves_used: set[object] = set()
        self.traced_into: set[str] = set()
        self.factories = factories
        self.hazards: list[Hazard] = []
        self.attributes: set[str] = set()
        """Of values, which the model sets."""
        self.texts: dict[str, tuple[str, int]] = {}
        """What values not yet known look like, where the model makes text of them, and its line."""
        self.sets: dict[tuple[nn.Module, str], tuple[str, int] | None] = {}
        """Where the model sets attributes of its modules."""
        self._state_paths: dict[int, tuple[Tensor, str]] = {}
        """Parameters and buffers by their identity: each with its path in the holder."""
        self._state_proxies: dict[str, fx.Proxy] = {}
        self.kept: Kept = {}
        """The tensors in attributes of the model before it was traced."""
        self.finished = False
        """Whether the graph is complete: a proxy that is used afterwards was kept from this run for another."""
        self.drew = False
        """Whether random numbers of torch were drawn."""
        self.cached: set[fx.Node] = set()
        """What functions with a cache give."""

    @property
    def progress(self) -> int:
        """How many operations have been recorded."""
        return sum(node.op.startswith("call_") and node.target not in FACTORIES for node in self.graph.nodes)

    def run(self, holder: nn.Module) -> fx.Graph:
        """Trace it. Torch's generator is put back if the model draws from it; what was noticed is in `hazards`."""
        self.root = holder
        self.parts, self.parameters = set(holder.modules()), dict(holder.named_parameters())
        self.state = {**self.parameters, **dict(holder.named_buffers())}
        with ExitStack() as stack:
            stack.enter_context(self._generator_put_back())
            stack.enter_context(_known_to_torch())
            stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))  # which the model may set
            stack.enter_context(torch_overridden(self))
            stack.enter_context(answered(holder))
            stack.enter_context(fresh_caches(holder, self._remember))
            stack.enter_context(Calls(self))
            seen = stack.enter_context(seen_errors())
            graph = self._record(holder)
        for place, message in seen.errors:
            what = f"a `try` hides that this can't be traced ({message})"
            self.hazards.append(
                Hazard("swallowed", format_location(place), what, "take the `try` away", changes_result=True)
            )
        for line, name in seen.gradients:
            what = f"{name} has a gradient of its own, and is called by a name under which that is not seen"
            self.hazards.append(
                Hazard("gradient", format_location(line), what, f"call {name}.apply", changes_result=True)
            )
        self._find_texts(graph)
        return graph

    @contextmanager
    def _generator_put_back(self) -> Iterator[None]:
        """Put torch's generator back if the model drew from it; other threads draw from it too."""
        before = torch.random.get_rng_state()
        try:
            yield
        finally:
            if self.drew:
                torch.random.set_rng_state(before)

    def _record(self, holder: nn.Module) -> fx.Graph:
        """The graph of one call of the model.

        It stands for `torch.fx.Tracer.trace`, which replaces what `nn.Module` does for all threads.
        """
        self.root_module_name = type(holder).__name__
        self.submodule_paths = {module: path for path, module in holder.named_modules()}
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs = {
            value: f"{path}.{name}" if path else name
            for path, module in holder.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, (Tensor, torch.ScriptObject))
        }
        last = max((n for n, name in enumerate(self.inputs.names) if name not in self.settings), default=-1)
        values = {name: self._placeholder(name, optional=n > last) for n, name in enumerate(self.inputs.names)}
        for name, expected in self.settings.items():
            self.create_proxy("call_function", functions.check_setting, (values[name], expected, name), {})
        positional, keywords = self.inputs.split({**values, **self.settings})
        value = run_model(holder.get_submodule(HOLDER), positional, keywords)
        self.create_node("output", "output", (self.create_arg(value),), {})
        self.finished = True
        return self.graph

    def _placeholder(self, name: str, *, optional: bool) -> fx.Proxy:
        """An input of the graph; a setting may be left out where no other input follows."""
        return self.create_proxy("placeholder", name, (self.settings[name],) if optional else (), {})

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:  # noqa: ARG002
        """A parameter or buffer that the model asks for, as a proxy."""
        known = self.known_state(attr_val) if isinstance(attr_val, Tensor) else None
        return attr_val if known is None else known

    def tensor_of(self, proxy: fx.Proxy) -> Tensor | None:
        """The parameter or buffer that a proxy stands for, if it is one."""
        node = None if isinstance(proxy, fx.proxy.Attribute) else proxy.node
        return self.state.get(str(node.target)) if node is not None and node.op == "get_attr" else None

    def known_state(self, tensor: Tensor) -> fx.Proxy | None:
        """The proxy of a tensor that is a parameter or a buffer of the model."""
        known = self._state_paths.get(id(tensor))
        if known is None:  # it may be new
            state = {**dict(self.root.named_parameters()), **dict(self.root.named_buffers())}
            self._state_paths |= {id(value): (value, path) for path, value in state.items()}
            known = self._state_paths.get(id(tensor))
        if known is None:
            return None
        path = known[1]
        if path not in self._state_proxies:
            self._state_proxies[path] = self.create_proxy("get_attr", path, (), {})
        return self._state_proxies[path]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        path = _inside(module_qualified_name)
        leaf = next((leaf for leaf in self.leaves if path and is_leaf(leaf, m, path)), None)
        if leaf is not None:
            self.leaves_used.add(leaf)
            return True
        whole = bool(path) and (
            isinstance(m, torch.jit.ScriptModule)
            or type(m).__module__.startswith("einops.")
            or super().is_leaf_module(m, module_qualified_name)
        )
        if not whole:
            self.traced_into.add(path)
        return whole

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if m in self.parts:
            return super().call_module(m, forward, args, kwargs)
        return forward(*args, **kwargs)  # made in forward, or kept where no module is looked for

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Generator):
            raise TypeError("a random generator of the model's own, which a graph can't hold")
        if isinstance(a, fx.Proxy) and a.tracer is not self:
            raise TraceError("a value of an earlier run is used, which was kept where the model finds it again")
        if type(a) is OrderedDict:  # torch.fx would make it a dict
            return self.create_proxy("call_function", OrderedDict, (list(a.items()),), {}).node
        return super().create_arg(a.item() if isinstance(a, np.generic) else a)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        if self.finished:
            raise TraceError("a value of an earlier run is used, which was kept where the model finds it again")
        node = super().create_node(*args, **kwargs)
        node.meta["surgery_source"] = find_user_line(sys._getframe(1))  # noqa: SLF001
        for written in mutated_nodes(node, self.root):
            if written in self.cached:
                what = "what a function with a cache gave is written in place, and stays so from run to run"
                self.note("attribute", what, "write to a copy of it")
            elif written.op == "get_attr" and str(written.target) in self.parameters:
                self.note_parameter(str(written.target))
        module = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            self.note_parameter(f"{node.target}.weight")
        return node

    def note_parameter(self, name: str) -> None:
        what = f"forward writes to the parameter {_inside(name)}, which the traced model shares with the model"
        self.note("parameter", what, "write to a copy of it, or make it a buffer")

    def _remember(self, value: Any) -> Any:
        fx.node.map_aggregate(value, lambda item: self.cached.add(item.node) if isinstance(item, fx.Proxy) else None)
        return value

    def _find_texts(self, graph: fx.Graph) -> None:
        """Note what values not yet known look like as text, where that text is part of what is computed."""
        if not self.texts:
            return
        for node in graph.nodes:
            if node.target is torch._assert:  # noqa: SLF001
                continue
            for text in texts_in((node.args, node.kwargs)):
                if (place := next((p for t, p in self.texts.items() if t in text), None)) is not None:
                    what = "text is made of a value that is not known while tracing, and is part of what is computed"
                    self.hazards.append(Hazard("text", format_location(place), what, _WHOLE, changes_result=True))

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ModelProxy(node, self)

    def type_of(self, proxy: fx.Proxy) -> type | None:
        """What a proxy stands for, where that is known.

        Raises TraceError for a setting that the graph takes as an input: its type may be another in another run.
        """
        name = None if isinstance(proxy, fx.proxy.Attribute) else str(proxy.node.target)
        if name in self.inputs.settings and proxy.node.op == "placeholder":
            raise TraceError(f"the type of {name} is asked for, which the example gives as a setting")
        return type_of(proxy, self.root, self.types, FACTORIES)

    def note(self, kind: Any, what: str, remedy: str, *, changes: bool = True) -> None:
        source = format_location(find_user_line(sys._getframe(1)))  # noqa: SLF001
        self.hazards.append(Hazard(kind, source, what, remedy, changes))


@contextmanager
def _known_to_torch() -> Iterator[None]:
    """Tell torch that this thread traces, where it keeps that for each thread."""
    symbolic: Any = torch.fx._symbolic_trace  # noqa: SLF001
    block = getattr(symbolic, "_is_fx_tracing_context", None)
    with block(True) if block is not None else nullcontext():
        yield


def _inside(path: str) -> str:
    return path.removeprefix(HOLDER).removeprefix(".")


def is_leaf(leaf: object, module: nn.Module, path: str) -> bool:
    """Whether a leaf that was asked for, a class, the name of one or a path with wildcards, is a module."""
    if isinstance(leaf, str):
        return fnmatchcase(path, leaf) or type(module).__name__ == leaf
    return isinstance(leaf, type) and isinstance(module, leaf)
