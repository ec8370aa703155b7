"""Graph modules that keep all that their model has, and the tracer that reads them back from a file."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from surgery import inplace
from surgery.twins import own_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

_STATE = (
    "_parameters",
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_META = ("nn_module_stack", "surgery_source", "surgery_tensors")


class TracedModule(fx.GraphModule):
    """A graph module with all the state of the module it was traced from, through copies and files as well.

    `torch.fx.GraphModule` itself keeps what its graph refers to alone, and makes a persistent buffer of every tensor.
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> TracedModule:
        """Move or convert it (`to`, `cuda`, `half`): first it gets parameters of its own."""
        own_parameters(self)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModule:
        return assemble(copy.deepcopy(shell(self), memo), copy_graph(self.graph), type(self).__name__)

    def __reduce__(self) -> tuple[Callable[..., TracedModule], tuple[Any, ...]]:
        function, arguments = super().__reduce__()
        meta = [
            {key: node.meta[key] for key in _META if key in node.meta}
            for node in self.graph.nodes
            if node.op.startswith("call_")
        ]
        return _restore, (function, arguments, shell(self), meta, type(self).__name__)


def _restore(
    function: Callable[..., fx.GraphModule],
    arguments: tuple[Any, ...],
    owner: nn.Module,
    meta: list[dict[str, Any]],
    class_name: str,
) -> TracedModule:
    graph = function(*arguments).graph
    calls = [node for node in graph.nodes if node.op.startswith("call_")]
    for node, kept in zip(calls, meta, strict=True):
        node.meta.update(kept)
    return assemble(owner, graph, class_name)


def assemble(owner: nn.Module, graph: fx.Graph, class_name: str | None = None) -> TracedModule:
    """A graph module that runs `graph` and has all that `owner` has, whether the graph uses it or not."""
    assembled = TracedModule(owner, graph, class_name=class_name or type(owner).__name__)
    for part in _STATE:
        getattr(assembled, part).clear()
        getattr(assembled, part).update(getattr(owner, part))
    for name, value in vars(owner).items():
        if isinstance(value, Tensor):
            object.__setattr__(assembled, name, value)
    return assembled


def shell(graph_module: fx.GraphModule) -> nn.Module:
    """All that a graph module has but its graph, as a plain module that shares it."""
    plain = nn.Module()
    for name, value in vars(graph_module).items():
        if name in vars(plain) or isinstance(value, Tensor):
            vars(plain)[name] = copy.copy(value) if isinstance(value, (dict, set)) else value
    return plain


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A copy with its own nodes, which keep their names and what is known of them."""
    result = empty_like(graph)
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copies[node] = result.node_copy(node, copies.__getitem__)
    return result


def empty_like(graph: fx.Graph) -> fx.Graph:
    """A graph without nodes that generates code and is read back as `graph` is."""
    result = fx.Graph(tracer_cls=graph._tracer_cls)  # noqa: SLF001
    result.set_codegen(graph._codegen)  # noqa: SLF001
    return result


class InPlaceProxy(fx.Proxy):
    """A proxy that records augmented and item assignments as what they are."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", inplace.setitem, (self, key, value), {})


def _record_augmented(function: Callable[[Any, Any], Any]) -> None:
    def record(self: InPlaceProxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    setattr(InPlaceProxy, f"__{function.__name__}__", record)


for _function in inplace.AUGMENTED:
    _record_augmented(_function)


class InPlaceTracer(fx.Tracer):
    """torch.fx's tracer with in-place operators kept. A pickled graph module is read back with it."""

    proxy_buffer_attributes = True  # a buffer that the graph writes to is not to be written while it is read back

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)
