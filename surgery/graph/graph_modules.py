"""Graph modules that keep all that their model has, and proxies that keep what is done in place."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from keyword import iskeyword
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.fx.node import _get_qualified_name

from surgery.errors import TraceError
from surgery.graph import contexts, inplace
from surgery.graph.copies import copy_module, following, sharing, unshare_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.graph.hazard_kinds import Hazard

GraphsByMode: TypeAlias = "dict[bool | None, fx.Graph | str]"
"""The graph for train mode (True) and for eval mode (False), or why there is none.

Where some modules are in one mode and some in the other, there is a third graph (None) for that, which runs until a
mode is set.
"""
ModuleModes: TypeAlias = "dict[bool, dict[str, bool]]"
"""For train mode and for eval mode, the modules that the model puts into the other one."""

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
    It has a graph for eval mode and one for train mode, which are one where the model does the same in both. Modules
    that the model itself keeps in a mode (frozen batch norms, say) are kept in it.
    """

    graphs: GraphsByMode
    modes: ModuleModes
    hazards: tuple[Hazard, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # where an error that leaves a block open ends the compilation
            return super().__call__(*args, **kwargs)
        with contexts.closing():
            return super().__call__(*args, **kwargs)

    def train(self, mode: bool = True) -> TracedModule:
        """Set the mode, and run the graph of that mode from now on.

        Raises TraceError where the model can't be traced in it.
        """
        graph = self.graphs[mode]
        if isinstance(graph, str):
            raise TraceError(graph)
        super().train(mode)
        for path, other in self.modes.get(mode, {}).items():
            self.get_submodule(path).training = other
        self.graphs.pop(None, None)
        if graph is not self.graph:
            self.graph = graph
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> TracedModule:
        """Move or convert it (`to`, `cuda`, `half`): first it gets parameters of its own."""
        unshare_parameters(self)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModule:
        owner = copy_module(without_graph(self), sharing(self, memo))
        copied = build_traced_module(owner, map_graphs(self, copy_graph), type(self).__name__, self)
        return following(copied, {**memo, id(self): copied})

    def __reduce__(self) -> tuple[Callable[..., TracedModule], tuple[Any, ...]]:
        return _restore, (
            map_graphs(self, _written),
            without_graph(self),
            type(self).__name__,
            self.hazards,
            self.modes,
        )


def _restore(
    written: dict[bool | None, Any], owner: nn.Module, class_name: str, hazards: tuple[Hazard, ...], modes: ModuleModes
) -> TracedModule:
    restored = build_traced_module(owner, _each(written, _read), class_name)
    restored.hazards, restored.modes = hazards, modes
    return restored


@dataclass(frozen=True, slots=True)
class _Reference:
    """A node in the arguments of another, in a file."""

    name: str


@dataclass(frozen=True, slots=True)
class _MemoryFormat:
    """One of torch's memory formats, which the pickle protocol of `torch.save` can't hold."""

    name: str


def _mark(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return _Reference(value.name)
    return _MemoryFormat(str(value)) if isinstance(value, torch.memory_format) else value


def _written(graph: fx.Graph) -> tuple[Any, list[tuple[Any, ...]]]:
    """A graph as plain values; torch.fx would trace its generated code again, and freeze what that then computes."""
    nodes = []
    for node in graph.nodes:
        target = _get_qualified_name(node.target) if node.op == "call_function" else node.target
        args, kwargs = fx.node.map_aggregate((node.args, node.kwargs), _mark)
        meta = {key: node.meta[key] for key in _META if key in node.meta}
        if stack := meta.get("nn_module_stack"):
            meta["nn_module_stack"] = {key: (path, str(kind)) for key, (path, kind) in stack.items()}
        nodes.append((node.op, target, args, kwargs, node.name, meta))
    codegen = graph._codegen  # noqa: SLF001
    return (None if type(codegen) is fx.graph.CodeGen else codegen), nodes


def _read(written: tuple[Any, list[tuple[Any, ...]]]) -> fx.Graph:
    codegen, nodes = written
    graph = fx.Graph()
    if codegen is not None:
        graph.set_codegen(codegen)
    known: dict[str, fx.Node] = {}

    def resolve(value: Any) -> Any:
        if isinstance(value, _Reference):
            return known[value.name]
        return resolve_name(value.name) if isinstance(value, _MemoryFormat) else value

    def resolved(arguments: Any) -> Any:
        return fx.node.map_aggregate(arguments, resolve)

    for op, target, args, kwargs, name, meta in nodes:
        called = resolve_name(target if "." in target else f"builtins.{target}") if op == "call_function" else target
        known[name] = graph.create_node(op, called, resolved(args), resolved(kwargs), name)
        known[name].meta.update(meta)
    return graph


def build_traced_module(
    owner: nn.Module, graphs: GraphsByMode, class_name: str | None = None, like: fx.GraphModule | None = None
) -> TracedModule:
    """A graph module that runs the graph of its mode and has all that `owner` has, whether that is used or not.

    What was noticed when `like` was traced, and the modes that its modules are kept in, are those of the new one.
    """
    graph = graphs.get(None, graphs[owner.training])
    if isinstance(graph, str):
        raise TraceError(graph)
    for other in graphs.values():
        if isinstance(other, fx.Graph):
            _check_names(other)
    try:
        assembled = TracedModule(owner, graph, class_name=class_name or type(owner).__name__)
    except (SyntaxError, UnicodeError) as error:
        words = ", ".join(sorted({w for n in graph.nodes for w in str(n.target).split(".") if iskeyword(w)}))
        said = f"a module is called {words}, a word of Python" if words else f"{type(error).__name__}: {error}"
        raise TraceError(f"the graph of {type(owner).__name__} can't be written as code: {said}") from error
    for part in _STATE:
        getattr(assembled, part).clear()
        getattr(assembled, part).update(getattr(owner, part))
    for name, value in vars(owner).items():
        if isinstance(value, Tensor):
            object.__setattr__(assembled, name, value)
    assembled.hazards = getattr(like, "hazards", ())
    assembled.modes = getattr(like, "modes", {})
    # The graph module has made a copy; the graph of both modes has to stay one.
    assembled.graphs = {mode: assembled.graph if other is graph else other for mode, other in graphs.items()}
    return assembled


def _check_names(graph: fx.Graph) -> None:
    """Raise TraceError for a name of a module that would end the text it is in, once it is written as code."""
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr") and re.search(r'["\\\x00-\x1f\ud800-\udfff]', str(node.target)):
            said = "has a quotation mark, a backslash or a control character in its name"
            raise TraceError(f"the module {str(node.target)[:200]!r} {said}, which torch.fx writes as code; rename it")


def graphs_by_mode(graph_module: fx.GraphModule) -> GraphsByMode:
    """The graph of each mode; of a graph module from elsewhere, which has one, twice that."""
    return getattr(graph_module, "graphs", {False: graph_module.graph, True: graph_module.graph})


def map_graphs(graph_module: fx.GraphModule, change: Callable[[fx.Graph], Any]) -> dict[bool | None, Any]:
    """What `change` makes of the graph of each mode, called once where both are one."""
    return _each(graphs_by_mode(graph_module), change)


def _each(graphs: dict[bool | None, Any], change: Callable[[Any], Any]) -> dict[bool | None, Any]:
    done: dict[int, Any] = {}
    for graph in graphs.values():
        if id(graph) not in done:
            done[id(graph)] = graph if isinstance(graph, str) else change(graph)
    return {mode: done[id(graph)] for mode, graph in graphs.items()}


def is_same_graph(one: fx.Graph, other: fx.Graph) -> bool:
    """Whether two graphs call the same things on the same values in the same order."""
    if len(one.nodes) != len(other.nodes):
        return False
    twins: dict[fx.Node, fx.Node] = {}
    for node, twin in zip(one.nodes, other.nodes, strict=True):
        twins[node] = twin
        arguments = fx.map_arg((node.args, node.kwargs), twins.__getitem__)
        if (node.op, node.target) != (twin.op, twin.target) or not _same_constants(arguments, (twin.args, twin.kwargs)):
            return False
    return True


def _same_constants(one: Any, other: Any) -> bool:
    """Equality in which True is not 1, and 1 is not 1.0."""
    return repr(one) == repr(other)


def without_graph(graph_module: fx.GraphModule) -> nn.Module:
    """All that a graph module has but its graph, as a plain module that shares it."""
    plain = nn.Module()
    for name, value in vars(graph_module).items():
        if name in vars(plain) or isinstance(value, Tensor):
            vars(plain)[name] = copy.copy(value) if isinstance(value, (dict, set)) else value
    return plain


def copy_graph(graph: fx.Graph) -> fx.Graph:
    """A copy with its own nodes, which keep their names and what is known of them."""
    result = empty_graph_like(graph)
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        copies[node] = result.node_copy(node, copies.__getitem__)
    return result


def empty_graph_like(graph: fx.Graph) -> fx.Graph:
    """A graph without nodes that generates code as `graph` does."""
    result = fx.Graph()
    result.set_codegen(graph._codegen)  # noqa: SLF001
    return result


class InPlaceProxy(fx.Proxy):
    """A proxy that records augmented and item assignments as what they are."""

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", inplace.setitem, (self, key, value), {})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("tracer", "node"):
            object.__setattr__(self, name, value)
        else:
            self.tracer.create_proxy("call_function", inplace.set_attribute, (self, name, value), {})


def _record_augmented(function: Callable[[Any, Any], Any]) -> None:
    def record(self: InPlaceProxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    setattr(InPlaceProxy, f"__{function.__name__}__", record)


for _function in inplace.AUGMENTED_ASSIGNMENTS:
    _record_augmented(_function)


class InPlaceTracer(fx.Tracer):
    """torch.fx's tracer with in-place operators kept."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)
