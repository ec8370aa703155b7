"""Compares the operations of an eager run with those of a graph."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from surgery.eager import UNOBSERVABLE_KINDS
from surgery.graph import operation_nodes
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.observed_operations import shapes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import fx

    from surgery.graph import HazardKind
    from surgery.tracing.observed_operations import ObservedOperation
    from surgery.types import Operation

_GraphOperations: TypeAlias = "Sequence[tuple[fx.Node, Operation]]"
_PlacedOperation: TypeAlias = "tuple[int, ObservedOperation]"
"""An operation of a run, with its place in the order of the run."""


@dataclass(frozen=True, slots=True)
class GraphDifference:
    """The first difference between a graph and its model, as a hazard describes it."""

    source: str | None
    """The user's line: ``models/unet.py:41``."""
    what: str
    kind: HazardKind = "branch"
    remedy: str = (
        "look near that line for `is`, `id()`, `isinstance` or a value of an earlier run, and rewrite it, or "
        f"{KEEP_WHOLE}"
    )
    is_certain: bool = False
    """Whether random numbers that other threads draw can't be its cause."""


def find_operation_difference(
    observed: Sequence[ObservedOperation], traced: fx.GraphModule, graph: fx.Graph
) -> GraphDifference | None:
    """Return the first operation that only the eager run or only the graph has, or that has another place in its order.

    None if both have the same. The operations are compared path by path, and then in their order: a Python function
    that is one operation of the graph, such as `getattr`, is not observed in the run, and the operations inside it are
    not in the graph.
    """
    by_path: defaultdict[str, list[_PlacedOperation]] = defaultdict(list)
    for place, operation in enumerate(observed):
        by_path[operation.path].append((place, operation))
    in_graph = list(operation_nodes(traced, graph))
    return _find_only_in_graph(by_path, in_graph) or _find_only_in_run(by_path, in_graph)


def _find_only_in_graph(
    observed: Mapping[str, list[_PlacedOperation]], in_graph: _GraphOperations
) -> GraphDifference | None:
    positions: Counter[str] = Counter()
    last_place, last_path = -1, ""
    for _, operation in in_graph:
        path, shapes = _path_without_number(operation), shapes_of(operation.tensors or ())
        if not shapes or operation.kind in _NOT_COMPARED or path not in observed:
            continue
        runs = observed[path]
        position = next((n for n in range(positions[path], len(runs)) if runs[n][1].shapes == shapes), None)
        if position is None:
            return GraphDifference(operation.source, f"the graph computes {operation.path}, which the model does not")
        positions[path] = position + 1
        place, run = runs[position]
        if place < last_place:
            what = f"the graph computes {operation.path} after {last_path}, and the model computes it before"
            return GraphDifference(operation.source, what)
        if run.is_computed:
            last_place, last_path = place, operation.path
    return None


def _find_only_in_run(
    observed: Mapping[str, list[_PlacedOperation]], in_graph: _GraphOperations
) -> GraphDifference | None:
    counts = Counter(_path_without_number(operation) for _, operation in in_graph)
    # ``x /= 2`` is ``div`` in a run and ``truediv`` in a graph.
    under_other_names = Counter(
        (_scope(path), shapes_of(operation.tensors or ()))
        for _, operation in in_graph
        if (path := _path_without_number(operation)) not in observed
    )
    opaque_scopes = {
        _scope(_path_without_number(operation))
        for node, operation in in_graph
        if node.op == "call_function" and not _is_observable(node.target)
    }
    for path, runs in observed.items():
        scope, kind = _scope(path), path.rpartition(".")[2]
        if kind in _NOT_COMPARED or scope in opaque_scopes:
            continue
        for operation in [operation for _, operation in runs if operation.is_computed][counts[path] :]:
            if under_other_names[scope, operation.shapes] == 0:
                return GraphDifference(operation.source, f"the model computes {path}, which its graph does not")
            under_other_names[scope, operation.shapes] -= 1
    return None


def _path_without_number(operation: Operation) -> str:
    return operation.path.partition("@")[0]


def _scope(path: str) -> str:
    return path.rpartition(".")[0]


_NOT_COMPARED = {*UNOBSERVABLE_KINDS, "getitem", "getattr", "setitem", "requires_grad"}
"""Kinds of operations that plain Python may perform, as when it unpacks a tuple."""


def _is_observable(function: Any) -> bool:
    """Return whether an eager run observes a function of a graph as one operation, not the operations inside it."""
    home = getattr(function, "__module__", None) or "torch"
    return home.partition(".")[0] in ("torch", "_operator", "builtins", "math") or home == "surgery.graph.inplace"
