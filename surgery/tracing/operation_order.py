"""The order of the operations in a run of a model, beside that in its graph."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import torch
from torch import Tensor, fx

from surgery.eager import UNOBSERVABLE_KINDS, OperationObserver, operation_kind
from surgery.graph import find_user_line, format_location, named_tensors, operation_nodes, tensor_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surgery.graph import HazardKind
    from surgery.types import Operation, TensorSpec

_Known: TypeAlias = "Sequence[tuple[fx.Node, Operation]]"


@dataclass(frozen=True, slots=True)
class Parting:
    """The first difference between a graph and its model."""

    source: str | None
    """The user's line: ``models/unet.py:41``."""
    what: str
    kind: HazardKind = "branch"
    remedy: str = (
        "look near that line for `is`, `id()`, `isinstance` or a value of an earlier run, and write it without, or "
        "keep the module around it whole with leaves=[...]"
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """An operation that gave tensors in a run."""

    path: str
    """Without ``@n``."""
    tensors: tuple[tuple[tuple[int, ...], str], ...]
    """Shape and dtype of each."""
    source: str | None
    depends: bool = True
    """Whether it is computed from inputs, parameters or buffers; else a graph may hold it as a constant."""


class Order(OperationObserver):
    """Notes which operations run, in their order."""

    def __init__(self, whole: set[str], known: Sequence[Tensor]) -> None:
        super().__init__(whole)
        self.ran: list[Ran] = []
        self._depending = WeakValueDictionary({id(tensor): tensor for tensor in known})

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        given = [tensor for _, tensor in named_tensors([args, kwargs or {}])]
        depends = any(id(tensor) in self._depending for tensor in given)
        value = func(*args, **(kwargs or {}))
        if depends:
            self._note_dependence(value)
            if given and func.__name__ in _WRITING:
                self._depending[id(given[0])] = given[0]
        if not self.running_leaves:
            scope, kind = self.scopes[-1], operation_kind(func)
            self._note(f"{scope}.{kind}" if scope else kind, value, depends=depends)
        return value

    def on_value(self, path: str, value: Any) -> None:
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            self._note_dependence(value)
            self._note(path, value, depends=True)

    def _note(self, path: str, value: Any, *, depends: bool) -> None:
        if tensors := _looks(tensor_specs(value)):
            source = format_location(find_user_line(sys._getframe(2)))  # noqa: SLF001
            self.ran.append(Ran(path, tensors, source, depends))

    def _note_dependence(self, value: Any) -> None:
        for _, tensor in named_tensors(value):
            self._depending[id(tensor)] = tensor


_WRITING = {"__setitem__", "copy_"}


_Looks = tuple[tuple[tuple[int, ...], str], ...]


def _looks(tensors: Sequence[TensorSpec]) -> _Looks:
    return tuple((tensor.shape, tensor.dtype) for tensor in tensors)


def step_that_differs(order: Sequence[Ran], traced: fx.GraphModule, graph: fx.Graph) -> Parting | None:
    """The first operation that one of the two runs and the other does not.

    Path by path, since functions of Python's (`getattr`, a function kept whole) are seen in a graph alone, and what
    runs inside them in the model alone.
    """
    ran: defaultdict[str, list[Ran]] = defaultdict(list)
    for each in order:
        ran[each.path].append(each)
    known = list(operation_nodes(traced, graph))
    return _more_in_the_graph(ran, known) or _more_in_the_model(ran, known)


def _more_in_the_graph(ran: Mapping[str, list[Ran]], known: _Known) -> Parting | None:
    passed: Counter[str] = Counter()
    for _, operation in known:
        path, tensors = _base(operation), _looks(operation.tensors or ())
        if not tensors or operation.kind in _NOT_COMPARED or path not in ran:
            continue
        place = next((n for n in range(passed[path], len(ran[path])) if ran[path][n].tensors == tensors), None)
        if place is None:
            return Parting(operation.source, f"the graph computes {operation.path}, which the model does not")
        passed[path] = place + 1
    return None


def _more_in_the_model(ran: Mapping[str, list[Ran]], known: _Known) -> Parting | None:
    counts = Counter(_base(operation) for _, operation in known)
    # ``x /= 2`` is ``div`` in a run and ``truediv`` in a graph.
    by_another_name = Counter((_scope(_base(o)), _looks(o.tensors or ())) for _, o in known if _base(o) not in ran)
    opaque = {
        _scope(_base(operation))
        for node, operation in known
        if node.op == "call_function" and not _is_of_torch(node.target)
    }
    for path, runs in ran.items():
        scope, kind = _scope(path), path.rpartition(".")[2]
        if kind in _NOT_COMPARED or scope in opaque:
            continue
        for each in [each for each in runs if each.depends][counts[path] :]:
            if by_another_name[scope, each.tensors] == 0:
                return Parting(each.source, f"the model computes {path}, which its graph does not")
            by_another_name[scope, each.tensors] -= 1
    return None


def _base(operation: Operation) -> str:
    return operation.path.partition("@")[0]


def _scope(path: str) -> str:
    return path.rpartition(".")[0]


_NOT_COMPARED = {*UNOBSERVABLE_KINDS, "getitem", "getattr", "setitem", "requires_grad"}
"""Kinds of operations that Python's own steps, such as unpacking, may stand for."""


def _is_of_torch(target: Any) -> bool:
    home = getattr(target, "__module__", None) or "torch"
    return home.partition(".")[0] in ("torch", "_operator", "builtins", "math") or home == "surgery.graph.inplace"
