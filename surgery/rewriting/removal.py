"""Copies of rewritten models without some of what was inserted into them."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, TypeVar

from torch import fx, nn

from surgery.graph import (
    InsertedModule,
    build_traced_module,
    copy_sharing_parameters,
    empty_graph_like,
    inserted_module,
    map_graphs,
    not_traced,
    without_graph,
)
from surgery.rewriting.activation_edit import EDIT, ActivationEdit
from surgery.rewriting.extractor import ActivationExtractor

T = TypeVar("T", bound=nn.Module)


def remove_edits(edited: T) -> T:
    """Return a copy of an edited model without its edits, and without the extractors of edited values.

    It computes what the model computed before it was edited, bit for bit, and shares the parameters of `edited`. Raises
    TraceError for anything that is not a traced or rewritten model.
    """
    return remove_inserted(edited, ActivationEdit)  # type: ignore[no-any-return]


def remove_extractors(opened: T) -> T:
    """Return a copy of a rewritten model without its extractors. It shares the parameters of `opened`."""
    return remove_inserted(opened, ActivationExtractor)  # type: ignore[no-any-return]


@singledispatch
def remove_inserted(rewritten: object, kind: type[InsertedModule]) -> Any:  # noqa: ARG001
    """Return a copy of a rewritten model without the inserted modules of a class."""
    raise not_traced(rewritten)


def is_removed(module: InsertedModule, kind: type[InsertedModule]) -> bool:
    """Return whether a module is of a class, or extracts what modules of this class compute."""
    of_edit = isinstance(module, ActivationExtractor) and module.operation.kind == EDIT
    return isinstance(module, kind) or (of_edit and issubclass(ActivationEdit, kind))


@remove_inserted.register(fx.GraphModule)
def _(rewritten: fx.GraphModule, kind: type[InsertedModule]) -> fx.GraphModule:
    removed: set[str] = set()

    def remove(original: fx.Graph) -> fx.Graph:
        graph = empty_graph_like(original)
        copies: dict[fx.Node, fx.Node] = {}
        for node in original.nodes:
            module = inserted_module(rewritten, node)
            if module is not None and is_removed(module, kind):
                copies[node] = copies[node.all_input_nodes[0]]
                removed.add(str(node.target))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        return graph

    graphs = map_graphs(rewritten, remove)
    owner = copy_sharing_parameters(without_graph(rewritten))
    for target in removed:
        _delete(owner, target)
    return build_traced_module(owner, graphs, type(rewritten).__name__, rewritten)


def _delete(owner: nn.Module, target: str) -> None:
    """Delete a submodule, and what contained nothing else."""
    home, _, name = target.rpartition(".")
    delattr(owner.get_submodule(home), name)
    if home and not list(owner.get_submodule(home).children()):
        _delete(owner, home)
