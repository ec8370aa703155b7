"""The operations of a graph: their nodes, paths and kinds."""

from __future__ import annotations

from collections import Counter
from dataclasses import is_dataclass
from functools import singledispatch
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.graph import autograd_functions as functions
from surgery.graph import inplace
from surgery.graph.listings import Operations
from surgery.graph.source_lines import format_location
from surgery.graph.tensors import named_tensors
from surgery.graph.trace_info import not_traced
from surgery.types import Operation, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@singledispatch
def operations(traced: object) -> Operations:
    """Return the operations of a traced model in order of execution: its calls of modules, functions and methods.

    `traced` is what `surgery.trace` or `surgery.insert` returned, or any `torch.fx.GraphModule`. Inserted extractors
    are not operations. Shapes are known if `trace` was given an example. The operations of an observed model are those
    of the run of the example. Raises TraceError for anything that is not a traced model.
    """
    raise not_traced(traced)


@operations.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> Operations:
    return Operations(operation for _, operation in operation_nodes(traced))


@singledispatch
def input_names(traced: object) -> tuple[str, ...]:
    """Return the names of the inputs of a traced model, in order. Raises TraceError for anything else."""
    raise not_traced(traced)


@input_names.register(fx.GraphModule)
def _(traced: fx.GraphModule) -> tuple[str, ...]:
    return tuple(str(node.target) for node in traced.graph.nodes if node.op == "placeholder")


@singledispatch
def call_arguments(traced: object, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:  # noqa: ARG001
    """Return the positional and the keyword arguments with which a traced model is called for inputs by name."""
    raise not_traced(traced)


@call_arguments.register(fx.GraphModule)
def _(traced: fx.GraphModule, values: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(values[name] for name in input_names(traced)), {}


def check_graph(graph_module: object) -> None:
    """Raise TraceError unless `graph_module` is a graph module."""
    if not isinstance(graph_module, fx.GraphModule):
        raise not_traced(graph_module)


def operation_nodes(graph_module: fx.GraphModule, graph: fx.Graph | None = None) -> Iterator[tuple[fx.Node, Operation]]:
    """Yield the node of each operation with the operation, in the current graph of `graph_module` or in `graph`."""
    check_graph(graph_module)
    seen: Counter[str] = Counter()
    index = 0
    for node in (graph or graph_module.graph).nodes:
        if not node.op.startswith("call_") or is_extractor(graph_module, node) or _computes_nothing(node.target):
            continue
        index += 1
        scopes = tuple(name for name, _ in node.meta.get("nn_module_stack", {}).values() if name)
        kind = _operation_kind(graph_module, node)
        if node.op == "call_module":
            path = str(node.target)
            scopes = scopes if path in scopes else (*scopes, path)
        else:
            path = f"{scopes[-1]}.{kind}" if scopes else kind
        repeats = seen[path]
        seen[path] += 1
        yield (
            node,
            Operation(
                name=node.name,
                path=f"{path}@{repeats}" if repeats else path,
                kind=kind,
                index=index,
                scopes=scopes,
                source=format_location(node.meta["surgery_source"]) if "surgery_source" in node.meta else None,
                tensors=node.meta.get("surgery_tensors"),
            ),
        )


def _computes_nothing(target: object) -> bool:
    """Whether a target is a check of a setting, or a class that only holds values, such as a named output."""
    return target is functions.check_setting or (
        isinstance(target, type) and (issubclass(target, (dict, tuple)) or is_dataclass(target))
    )


def is_extractor(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node of the graph calls an inserted module, such as an ActivationExtractor."""
    return node.op == "call_module" and isinstance(graph_module.get_submodule(str(node.target)), InsertedModule)


class InsertedModule(nn.Module):
    """The base class of modules that are inserted into a graph, and are not operations of the model."""


def _operation_kind(graph_module: fx.GraphModule, node: fx.Node) -> str:
    if node.op == "call_module":
        return type(graph_module.get_submodule(str(node.target))).__name__.lower()
    return target_name(node)


def target_name(node: fx.Node) -> str:
    """Return the name of a called function or method: ``add`` for ``x.add_(y)``, ``x += y`` and ``torch.add(x, y)``."""
    if node.target in inplace.AUGMENTED_ASSIGNMENTS:
        return node.target.__name__.removeprefix("i")
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", type(node.target).__name__)
    return name.strip("_").lower() or "call"


def tensor_specs(value: object) -> tuple[TensorSpec, ...]:
    """Return the key, shape and dtype of each tensor in a value."""
    return tuple(
        TensorSpec(key, _shape(tensor), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in named_tensors(value)
    )


def _shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of a tensor; that of a nested tensor of the strided layout, which has none, is empty."""
    return () if tensor.is_nested and tensor.layout is torch.strided else tuple(tensor.shape)
