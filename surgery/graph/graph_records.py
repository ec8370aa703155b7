"""Graphs as plain values that can be pickled, and graphs made from them.

torch.fx itself pickles the generated code and traces that again, which would freeze whatever Python computes in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, TypeAlias

import torch
from torch import fx
from torch.fx.node import _get_qualified_name

from surgery.graph.exported import node_line, node_tensors

GraphRecord: TypeAlias = "tuple[Any, list[tuple[Any, ...]]]"
"""The code generator of a graph (None for the default one), and op, target, arguments, name and meta of each node."""

_META = ("nn_module_stack", "torch_fn", "surgery_source", "surgery_tensors", "surgery_path", "surgery_crossing")


@dataclass(frozen=True, slots=True)
class _NodeReference:
    """Stands for a node in the arguments of another."""

    name: str


@dataclass(frozen=True, slots=True)
class _MemoryFormat:
    """Stands for a memory format, which the pickle protocol of `torch.save` can't hold."""

    name: str


def to_record(graph: fx.Graph) -> GraphRecord:
    """Return a graph as plain values."""
    nodes = []
    for node in graph.nodes:
        target = _get_qualified_name(node.target) if node.op == "call_function" else node.target
        args, kwargs = fx.node.map_aggregate((node.args, node.kwargs), _encode)
        known = {**node.meta, "surgery_source": node_line(node), "surgery_tensors": node_tensors(node)}
        meta = {key: known[key] for key in _META if known.get(key) is not None}
        if stack := meta.get("nn_module_stack"):
            meta["nn_module_stack"] = {key: (path, str(kind)) for key, (path, kind) in stack.items()}
        nodes.append((node.op, target, args, kwargs, node.name, meta))
    codegen = graph._codegen  # noqa: SLF001
    return (None if type(codegen) is fx.graph.CodeGen else codegen), nodes


def from_record(record: GraphRecord) -> fx.Graph:
    """Return the graph that `to_record` was given."""
    codegen, nodes = record
    graph = fx.Graph()
    if codegen is not None:
        graph.set_codegen(codegen)
    by_name: dict[str, fx.Node] = {}

    def decode(value: Any) -> Any:
        if isinstance(value, _NodeReference):
            return by_name[value.name]
        return resolve_name(value.name) if isinstance(value, _MemoryFormat) else value

    for op, target, args, kwargs, name, meta in nodes:
        if op == "call_function":
            target = resolve_name(target if "." in target else f"builtins.{target}")  # noqa: PLW2901
        args, kwargs = fx.node.map_aggregate((args, kwargs), decode)  # noqa: PLW2901
        by_name[name] = graph.create_node(op, target, args, kwargs, name)
        by_name[name].meta.update(meta)
    return graph


def _encode(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return _NodeReference(value.name)
    return _MemoryFormat(str(value)) if isinstance(value, torch.memory_format) else value
