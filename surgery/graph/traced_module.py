"""The graph module that `surgery.trace` returns: all state of the model, and one graph for each mode."""

from __future__ import annotations

import copy
import re
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from surgery.errors import TraceError
from surgery.graph import contexts
from surgery.graph.closures import rebind_modules
from surgery.graph.copies import add_shared_objects, unshare_parameters
from surgery.graph.deep_copy import copy_module
from surgery.graph.exported import is_export
from surgery.graph.graph_copies import copy_graph
from surgery.graph.graph_records import GraphRecord, from_record, to_record
from surgery.graph.listings import model_html
from surgery.graph.trace_info import TraceInfo, info_of, set_info

if TYPE_CHECKING:
    from collections.abc import Callable

GraphsByMode: TypeAlias = "dict[bool | None, fx.Graph | str]"
"""The graph for train mode (True) and for eval mode (False), or the reason why there is none.

The key None has the graph for a model with some modules in train mode and others in eval mode, until a mode is set.
"""
ModuleModes: TypeAlias = "dict[bool, dict[str, bool]]"
"""For train mode (True) and eval mode (False): path -> mode of each module that the model keeps in the other one."""

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


class TracedModule(fx.GraphModule):
    """A graph module with all the state of the model that it was traced from, also when it is copied or saved.

    `torch.fx.GraphModule` keeps only what its graph refers to, and turns every tensor into a persistent buffer. A
    traced module has a graph for train mode and one for eval mode, which are the same object if the model does the same
    in both. Modules that the model itself keeps in a mode, such as frozen batch norms, stay in that mode.
    """

    graphs: GraphsByMode
    modes: ModuleModes

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # an error that leaves a block open ends the compilation anyway
            return super().__call__(*args, **kwargs)
        with contexts.closing():
            return super().__call__(*args, **kwargs)

    def train(self, mode: bool = True) -> TracedModule:
        """Set the mode, and run the graph of that mode from now on.

        Raises TraceError if the model can't be traced in this mode.
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

    def _repr_html_(self) -> str:
        """Return a table of the operations for a notebook."""
        from surgery.graph.nodes import InsertedModule as Inserted
        from surgery.graph.nodes import InsertedOperation, operations

        modules: list[Any] = [
            each for each in self.modules() if isinstance(each, Inserted) and hasattr(each, "operation")
        ]
        edited = {module.operation.path for module in modules if isinstance(module, InsertedOperation)}
        extracted = {module.operation.path for module in modules if module.returns_its_input}
        return model_html(type(self).__name__, operations(self), extracted, edited)

    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:
        """Load a state, as of any module.

        Raises TraceError if the model has a method of its own for this, which the graph does not have.
        """
        noted = (each for each in info_of(self).hazards if each.kind == "state-dict" and not each.changes_result)
        if (hazard := next(noted, None)) is not None:
            raise TraceError(
                f"{hazard}; {hazard.remedy}, or with front_end='observed', or accept it with allow=['state-dict']"
            )
        return super().load_state_dict(state_dict, *args, **options)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> TracedModule:
        """Move or convert the module (`to`, `cuda`, `half`) after giving it parameters of its own."""
        unshare_parameters(self)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModule:
        for parameter in self.parameters():  # those in `memo` are to be shared, as `copy_sharing_parameters` does
            if id(parameter) not in memo:
                copy.deepcopy(parameter, memo)
        owner = copy_module(without_graph(self), add_shared_objects(self, memo))
        result = build_traced_module(owner, map_graphs(self, copy_graph), type(self).__name__, self)
        return rebind_modules(result, {**memo, id(self): result})

    def __reduce__(self) -> tuple[Callable[..., TracedModule], tuple[Any, ...]]:
        records = map_graphs(self, to_record)
        return _restore, (records, without_graph(self), type(self).__name__, info_of(self), self.modes)


def _restore(
    records: dict[bool | None, GraphRecord | str],
    owner: nn.Module,
    class_name: str,
    info: TraceInfo,
    modes: ModuleModes,
) -> TracedModule:
    restored = build_traced_module(owner, _map_modes(records, from_record), class_name)
    restored.modes = modes
    set_info(restored, info)
    return restored


def build_traced_module(
    owner: nn.Module, graphs: GraphsByMode, class_name: str | None = None, like: fx.GraphModule | None = None
) -> TracedModule:
    """Return a graph module that runs the graph of its mode and has all the state of `owner`, used or not.

    How it was traced and the modes of modules are taken from `like`. Raises TraceError if there is no graph for the
    mode of `owner`, or if the graph can't be written as Python code.
    """
    graph = graphs.get(None, graphs[owner.training])
    if isinstance(graph, str):
        raise TraceError(graph)
    for other in graphs.values():
        if isinstance(other, fx.Graph):
            _check_names(other)
    try:
        module = TracedModule(owner, graph, class_name=class_name or type(owner).__name__)
    except (SyntaxError, UnicodeError) as error:
        words = ", ".join(sorted({w for n in graph.nodes for w in str(n.target).split(".") if iskeyword(w)}))
        reason = f"a module is called {words}, a word of Python" if words else f"{type(error).__name__}: {error}"
        raise TraceError(f"the graph of {type(owner).__name__} can't be written as code: {reason}") from error
    for part in _STATE:
        getattr(module, part).clear()
        getattr(module, part).update(getattr(owner, part))
    for name, value in vars(owner).items():
        if isinstance(value, Tensor):
            object.__setattr__(module, name, value)
    set_info(module, TraceInfo() if like is None else info_of(like))
    module.modes = getattr(like, "modes", {})
    # The graph module has made a copy of `graph`, which stands for both modes if `graph` does.
    module.graphs = {mode: module.graph if other is graph else other for mode, other in graphs.items()}
    return module


def _check_names(graph: fx.Graph) -> None:
    """Raise TraceError for the name of a module that would end the string literal that it stands in."""
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr") and re.search(r'["\\\x00-\x1f\ud800-\udfff]', str(node.target)):
            raise TraceError(
                f"the module {str(node.target)[:200]!r} has a quotation mark, a backslash or a control character in "
                "its name, which torch.fx writes as code; rename it"
            )


def graphs_by_mode(graph_module: fx.GraphModule) -> GraphsByMode:
    """Return the graph of each mode; a plain graph module has the same one for both.

    A graph of `torch.export` has the mode that the model was in, which it doesn't say.
    """
    graph = graph_module.graph
    if is_export(graph_module) and not hasattr(graph_module, "graphs"):
        reason = "torch.export keeps the mode that the model was in; export the model in the other mode"
        return {None: graph, False: reason, True: reason}
    return getattr(graph_module, "graphs", {False: graph, True: graph})


def map_graphs(graph_module: fx.GraphModule, change: Callable[[fx.Graph], Any]) -> dict[bool | None, Any]:
    """Return the result of `change` for the graph of each mode, calling it once if both modes have the same graph."""
    return _map_modes(graphs_by_mode(graph_module), change)


def _map_modes(values: dict[bool | None, Any], change: Callable[[Any], Any]) -> dict[bool | None, Any]:
    changed: dict[int, Any] = {}
    for value in values.values():
        if id(value) not in changed:
            changed[id(value)] = value if isinstance(value, str) else change(value)
    return {mode: changed[id(value)] for mode, value in values.items()}


def without_graph(graph_module: fx.GraphModule) -> nn.Module:
    """Return a plain module that shares everything that a graph module has, except its graph."""
    plain = nn.Module()
    for name, value in vars(graph_module).items():
        if name in vars(plain) or isinstance(value, Tensor):
            vars(plain)[name] = copy.copy(value) if isinstance(value, (dict, set)) else value
    return plain
