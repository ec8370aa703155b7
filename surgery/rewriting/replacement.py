"""From a traced or rewritten model to a copy in which other modules are in the places of leaf modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace as with_fields
from functools import singledispatch
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from torch import fx, nn

from surgery.errors import EditError, SelectionError
from surgery.graph import (
    build_traced_module,
    copy_sharing_parameters,
    empty_graph_like,
    explain_input_checks,
    is_export,
    map_graphs,
    not_traced,
    without_graph,
)
from surgery.rewriting.extractor import find_extractors
from surgery.rewriting.insertion import Chosen, resolve_chosen
from surgery.rewriting.replacement_check import check_same_value
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from surgery.types import Operation

ModuleMaker: TypeAlias = Callable[[Any], nn.Module]
"""Takes the module that is replaced; returns the one that takes its place."""

T = TypeVar("T", bound=nn.Module)


def replace(traced: T, chosen: Chosen, module: nn.Module | ModuleMaker) -> T:
    """Return a copy of `traced` in which another module is in the place of the leaf module that was chosen.

    The new module is one operation, with the path of the former one and its own kind. It is copied: the copy shares its
    parameters, and has the mode of the former module. `state_dict` has its keys. All calls of a module are replaced. A
    function that takes the former module and returns a new one replaces several.

    Where an example has run, the new module is tried on zeros of the shapes that the former one had.

    Raises SelectionError if `chosen` has an operation that is no module, or several modules for one, and EditError if
    the new module can't take the former one's arguments, or returns another shape or dtype.
    """
    calls: dict[str, Operation] = {}
    for operation in resolve_chosen(traced, chosen, "replace"):
        calls.setdefault(_module_path(traced, operation), operation)
    if isinstance(module, nn.Module) and len({id(traced.get_submodule(path)) for path in calls}) > 1:
        raise SelectionError(
            f"one module can't take the places of {abbreviate_list(list(calls), 4)}; give a function that takes the "
            "former module and returns a new one"
        )
    modules: dict[str, nn.Module] = {}
    for path, operation in calls.items():
        former = traced.get_submodule(path)
        modules[path] = module if isinstance(module, nn.Module) else _make(module, former)
        check_same_value(traced, operation, former, modules[path])
    return replace_modules(traced, modules)  # type: ignore[no-any-return]


def _module_path(traced: nn.Module, operation: Operation) -> str:
    path = operation.path.partition("@")[0]
    if path not in operation.scopes:
        raise SelectionError(
            f"{operation.path} is no module, but a call of {operation.kind}; surgery.replace takes modules, and "
            "surgery.edit any operation"
        )
    if is_export(traced):
        raise SelectionError(f"torch.export has dissolved the module {path}; replace it in the model, and export that")
    return path


def _make(maker: Any, former: nn.Module) -> nn.Module:
    module = maker(former) if callable(maker) else maker
    if not isinstance(module, nn.Module):
        raise EditError(f"replace takes a module, or a function that makes one, not {type(module).__name__}")
    return module


@singledispatch
def replace_modules(traced: object, modules: Mapping[str, nn.Module]) -> Any:  # noqa: ARG001
    """Return a copy of a traced model with new modules at the paths of leaf modules."""
    raise not_traced(traced)


@replace_modules.register(fx.GraphModule)
def _(traced: fx.GraphModule, modules: Mapping[str, nn.Module]) -> fx.GraphModule:
    def rename_classes(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        copies: dict[fx.Node, fx.Node] = {}
        for node in original.nodes:
            copies[node] = copy = graph.node_copy(node, copies.__getitem__)
            if node.op == "call_module" and node.target in modules and "nn_module_stack" in node.meta:
                path = str(node.target)
                copy.meta["nn_module_stack"] = {
                    key: (scope, type(modules[path]) if scope == path else kind)
                    for key, (scope, kind) in node.meta["nn_module_stack"].items()
                }
        return graph

    owner = copy_sharing_parameters(without_graph(traced))
    put_modules(owner, modules)
    explain_input_checks(owner)
    result = build_traced_module(owner, map_graphs(traced, rename_classes), type(traced).__name__, traced)
    result.modes = {mode: _modes_with(modes, result, modules) for mode, modes in result.modes.items()}
    for extractor in find_extractors(result):
        extractor.operation = replaced_operation(extractor.operation, modules)
    return result


def put_modules(owner: nn.Module, modules: Mapping[str, nn.Module]) -> None:
    """Put copies of modules, in the mode of the former ones, at their paths in `owner`, and wherever it has those."""
    for path, module in modules.items():
        former = owner.get_submodule(path)
        copy = copy_sharing_parameters(module)
        copy.train(former.training)
        for parent in list(owner.modules()):
            for name, child in parent._modules.items():  # noqa: SLF001
                if child is former:
                    parent._modules[name] = copy  # noqa: SLF001


def replaced_operation(operation: Operation, modules: Mapping[str, nn.Module]) -> Operation:
    """Return an operation of a model with new modules: if it calls one of them, it has the new module's kind."""
    path = operation.path.partition("@")[0]
    if path not in operation.scopes or path not in modules:
        return operation
    return with_fields(operation, kind=type(modules[path]).__name__.lower())


def _modes_with(modes: Mapping[str, bool], model: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, bool]:
    """Return the modes in which modules are kept; the parts of a new module have the mode of the former one."""
    result = {path: mode for path, mode in modes.items() if not any(path.startswith(f"{new}.") for new in modules)}
    for new in set(modules).intersection(modes):
        result |= {f"{new}.{part}" if part else new: modes[new] for part, _ in model.get_submodule(new).named_modules()}
    return result
