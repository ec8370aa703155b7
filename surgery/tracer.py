"""The tracer of models: torch.fx's, and what it would lose or freeze recorded as well, or at least noticed."""

from __future__ import annotations

import sys
from collections import OrderedDict
from contextlib import ExitStack
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from surgery.calls import FACTORIES, Calls
from surgery.graphs import InPlaceTracer
from surgery.hazards import Hazard
from surgery.patches import (
    answered_by_torch,
    buffers_in_place,
    recorded_contexts,
    recorded_factories,
    recorded_functions,
    recorded_settings,
)
from surgery.proxies import ModelProxy, texts_in, type_of
from surgery.questions import answered, fresh_caches
from surgery.sources import shown, user_line
from surgery.swallowing import seen_errors
from surgery.writes import written_by

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HOLDER = "model"
"""What a model is called in the module that holds it while it is traced."""

_WHOLE = "keep the module around it whole with leaves=[...]"


class ModelTracer(InPlaceTracer):
    """Traces a holder of a model, so that the model itself is called, with its hooks."""

    def __init__(
        self,
        names: Sequence[str],
        leaves: Sequence[object],
        *,
        factories: bool,
        buffers: bool,
        inputs: Mapping[str, type],
    ) -> None:
        super().__init__()
        self.names = names
        self.inputs = inputs
        self.leaves = leaves
        self.leaves_used: set[object] = set()
        self.traced_into: set[str] = set()
        self.factories = factories
        self.proxy_buffer_attributes = buffers
        self.hazards: list[Hazard] = []
        self.attributes: set[str] = set()
        """Of values, which the model sets."""
        self.texts: dict[str, tuple[str, int]] = {}
        """What values not yet known look like, where the model makes text of them, and its line."""
        self.sets: dict[tuple[nn.Module, str], tuple[str, int] | None] = {}
        """Where the model sets attributes of its modules."""
        self.cached: set[fx.Node] = set()
        """What functions with a cache give."""

    def run(self, holder: nn.Module) -> fx.Graph:
        """Trace it. Random generators of torch are put back; what was noticed is in `hazards`."""
        self.parts, self.parameters = set(holder.modules()), dict(holder.named_parameters())
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))  # which the model may set
            stack.enter_context(recorded_contexts(self))
            stack.enter_context(recorded_factories(self))
            stack.enter_context(recorded_settings(self))
            stack.enter_context(recorded_functions(self))
            stack.enter_context(answered_by_torch())
            stack.enter_context(buffers_in_place(self))
            stack.enter_context(answered(holder))
            stack.enter_context(fresh_caches(holder, self._remember))
            stack.enter_context(Calls(self))
            swallowed = stack.enter_context(seen_errors())
            graph = self.trace(holder)
        for place, message in swallowed:
            what = f"a `try` hides that this can't be traced ({message})"
            self.hazards.append(Hazard("swallowed", shown(place), what, "take the `try` away", changes=True))
        self._find_texts(graph)
        return graph

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:  # noqa: ARG002
        values = [self.create_proxy("placeholder", name, (), {}) for name in self.names]

        def call(root: nn.Module, *values: Any) -> Any:
            return root.get_submodule(HOLDER)(*values)

        return call, [self.root, *values]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        path = _inside(module_qualified_name)
        leaf = next((leaf for leaf in self.leaves if path and _is_leaf(leaf, m, path)), None)
        if leaf is not None:
            self.leaves_used.add(leaf)
            return True
        whole = bool(path) and (
            isinstance(m, torch.jit.ScriptModule) or super().is_leaf_module(m, module_qualified_name)
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
        if type(a) is OrderedDict:  # torch.fx would make it a dict
            return self.create_proxy("call_function", OrderedDict, (list(a.items()),), {}).node
        return super().create_arg(a.item() if isinstance(a, np.generic) else a)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["surgery_source"] = user_line(sys._getframe(1))  # noqa: SLF001
        for written in written_by(node, self.root):
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
                    self.hazards.append(Hazard("text", shown(place), what, _WHOLE, changes=True))

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ModelProxy(node, self)

    def type_of(self, proxy: fx.Proxy) -> type | None:
        """What a proxy stands for, where that is known."""
        return type_of(proxy, self.root, self.inputs, FACTORIES)

    def note(self, kind: Any, what: str, remedy: str, *, changes: bool = True) -> None:
        source = shown(user_line(sys._getframe(1)))  # noqa: SLF001
        self.hazards.append(Hazard(kind, source, what, remedy, changes))


def _inside(path: str) -> str:
    return path.removeprefix(HOLDER).removeprefix(".")


def _is_leaf(leaf: object, module: nn.Module, path: str) -> bool:
    if isinstance(leaf, str):
        return fnmatchcase(path, leaf) or type(module).__name__ == leaf
    return isinstance(leaf, type) and isinstance(module, leaf)
