"""One run of the model on the example beside one of its graph: whether the graph does what the model does.

While a model is traced, Python answers for stand-ins: ``y is x`` is False for any two of them, whatever the values are.
So a graph may hold another branch than the model takes. A run of the model shows it.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import torch
from torch import Tensor, fx, nn

from surgery.eager import NOT_SEEN, Watcher, first_difference, fresh_caches, kind_of, run_watched, shape_of
from surgery.eager import fingerprints as marks
from surgery.errors import TraceError, first_line
from surgery.graph import (
    NodeByNode,
    apart,
    contexts,
    copied,
    graphs_of,
    in_its_mode,
    isolated_twin,
    operation_nodes,
    same_bits,
    shown,
    specs,
    tensors_in,
    twin,
    user_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from surgery.eager import ExternalState, Kept
    from surgery.tracing.example_inputs import Inputs
    from surgery.types import Operation, TensorSpec

_Known: TypeAlias = "Sequence[tuple[fx.Node, Operation]]"

SEED = 0
"""Of torch's random generator, before each run."""


@dataclass(frozen=True, slots=True)
class Parting:
    """The first difference between a graph and its model."""

    source: str | None
    """The user's line: ``models/unet.py:41``."""
    what: str


@dataclass(frozen=True, slots=True)
class _Ran:
    """An operation that gave tensors in a run."""

    path: str
    """Without ``@n``."""
    tensors: tuple[tuple[tuple[int, ...], str], ...]
    """Shape and dtype of each."""
    source: str | None
    depends: bool = True
    """Whether it is computed from inputs, parameters or buffers; else a graph may hold it as a constant."""


@dataclass(slots=True)
class _Outcome:
    """What a run gives and leaves behind."""

    output: Any
    buffers: dict[str, Tensor]
    generator: Tensor


def parting(
    model: nn.Module, traced: fx.GraphModule, inputs: Inputs, mode: bool | None, outside: ExternalState, kept: Kept
) -> Parting | None:
    """Where `traced` does something else on the example than `model` does; None where it does the same.

    Both run once, in train mode, in eval mode, or for None as they are, on copies of the inputs and of all that a run
    could change, with the same random numbers. Outputs, buffers and random numbers are compared bit for bit, and so
    are the operations: their paths, shapes and dtypes. What the graph's operations give is noted in its nodes.

    A model whose runs differ from each other is not compared. Raises ExampleError where the model itself does not run.
    """
    found = _parting(model, traced, inputs, mode, outside, kept)
    tries = 3 if threading.active_count() > 1 else 1  # other threads may have drawn from torch's generator meanwhile
    while found is not None and (tries := tries - 1):
        found = _parting(model, traced, inputs, mode, outside, kept)
    return found


def _parting(
    model: nn.Module, traced: fx.GraphModule, inputs: Inputs, mode: bool | None, outside: ExternalState, kept: Kept
) -> Parting | None:
    truth, order, changed = _run_model(model, traced, inputs, mode, outside)
    if (name := _reads_left_over(traced, mode, changed, kept)) is not None:
        return Parting(None, f"the graph holds a value that an earlier run left in {name}, and each run writes there")
    try:
        found = _run_graph(traced, inputs, mode)
    except Exception as error:  # noqa: BLE001 - whatever an operation raises
        return Parting(None, f"the model takes the example, and its graph does not: {first_line(error)}")
    difference = _difference(truth, found)
    step = _step_that_differs(order, traced, mode)
    if difference is None and step is None:
        return None
    again, other, _ = _run_model(model, traced, inputs, mode, outside)
    if _difference(truth, again) or [each.path for each in order] != [each.path for each in other]:
        return None
    return step or _where_values_differ(model, traced, inputs, mode) or Parting(None, difference or "")


def _where_values_differ(model: nn.Module, traced: fx.GraphModule, inputs: Inputs, mode: bool | None) -> Parting | None:
    """The first operation of the graph whose value the model does not compute."""
    if inputs.by_keyword:
        return None
    given = list((inputs.example or {}).values())
    with suppress(Exception):  # which is no reason to say less than what differs in the end
        operation, difference = first_difference(model, traced, given, mode, seed=SEED)
        return Parting(operation.source, f"the graph gives another {operation.path} than the model{difference}")
    return None


def learn_shapes(traced: fx.GraphModule, inputs: Inputs) -> None:
    """Note in the nodes of a graph what they give on the example. Raises TraceError where it does not run."""
    try:
        _run_graph(traced, inputs, None)
    except Exception as error:
        raise TraceError(f"the example does not run: {first_line(error)}") from error


class ExampleError(Exception):
    """The model itself does not run on the example."""


def _run_model(
    model: nn.Module, traced: fx.GraphModule, inputs: Inputs, mode: bool | None, outside: ExternalState
) -> tuple[_Outcome, list[_Ran], set[str]]:
    subject = in_its_mode(isolated_twin(model), mode)
    given, named = inputs.split(copied(inputs.example))
    graph = _graph(traced, mode)
    whole = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    watcher = _Order(whole, [tensor for _, tensor in (*tensors_in([given, named]), *_state(subject))])
    kept_whole = [node.target for node in graph.nodes if node.op == "call_function"]
    before = [marks.attributes(module) for module in (subject, model)]
    with torch.no_grad(), _seeded(given), fresh_caches(subject), outside.kept():
        try:
            output = run_watched(subject, watcher, given, kept_whole, named)
        except Exception as error:
            raise ExampleError(first_line(error)) from error
        after = [marks.attributes(module) for module in (subject, model)]  # a hook may write to the model by its name
        changed = {name for pair in zip(before, after, strict=True) for name in marks.changed(*pair)}
        return _Outcome(output, dict(subject.named_buffers()), torch.random.get_rng_state()), watcher.ran, changed


def _reads_left_over(traced: fx.GraphModule, mode: bool | None, changed: set[str], kept: Kept) -> str | None:
    """The attribute that holds a constant of the graph, where every run of the model changes that attribute."""
    for node in _graph(traced, mode).nodes:
        if node.op == "get_attr":
            target = str(node.target)
            home, _, name = target.rpartition(".")
            value = getattr(traced.get_submodule(home), name, None)
            for attribute in changed:
                if target == attribute or any(value is tensor for tensor in kept.get(attribute, ())):
                    return attribute
    return None


def _run_graph(traced: fx.GraphModule, inputs: Inputs, mode: bool | None) -> _Outcome:
    subject = in_its_mode(twin(traced), mode)
    given = list(copied(inputs.example).values())
    with torch.no_grad(), _seeded(given), contexts.closing():
        output = _Shapes(subject).run(*given)
        for node, ran in zip(_graph(traced, mode).nodes, subject.graph.nodes, strict=True):
            if "surgery_tensors" in ran.meta:
                node.meta["surgery_tensors"] = ran.meta["surgery_tensors"]
        return _Outcome(output, dict(subject.named_buffers()), torch.random.get_rng_state())


class _Shapes(NodeByNode):
    """Notes with each node which tensors it gave."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "output":
            n.meta["surgery_tensors"] = specs(value)
        return value


class _Order(Watcher):
    """Notes which operations run, in their order."""

    def __init__(self, whole: set[str], known: Sequence[Tensor]) -> None:
        super().__init__(whole)
        self.ran: list[_Ran] = []
        self._depending = WeakValueDictionary({id(tensor): tensor for tensor in known})

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        given = [tensor for _, tensor in tensors_in([args, kwargs or {}])]
        depends = any(id(tensor) in self._depending for tensor in given)
        value = func(*args, **(kwargs or {}))
        if depends:
            self._note_dependence(value)
            if given and func.__name__ in _WRITING:
                self._depending[id(given[0])] = given[0]
        if not self.inside:
            scope, kind = self.scopes[-1], kind_of(func)
            self._note(f"{scope}.{kind}" if scope else kind, value, depends=depends)
        return value

    def keep(self, path: str, value: Any) -> None:
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            self._note_dependence(value)
            self._note(path, value, depends=True)

    def _note(self, path: str, value: Any, *, depends: bool) -> None:
        if tensors := _looks(specs(value)):
            source = shown(user_line(sys._getframe(2)))  # noqa: SLF001
            self.ran.append(_Ran(path, tensors, source, depends))

    def _note_dependence(self, value: Any) -> None:
        for _, tensor in tensors_in(value):
            self._depending[id(tensor)] = tensor


_WRITING = {"__setitem__", "copy_"}


_Looks = tuple[tuple[tuple[int, ...], str], ...]


def _looks(tensors: Sequence[TensorSpec]) -> _Looks:
    return tuple((tensor.shape, tensor.dtype) for tensor in tensors)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _graph(traced: fx.GraphModule, mode: bool | None) -> fx.Graph:
    graph = graphs_of(traced).get(mode, traced.graph)
    return traced.graph if isinstance(graph, str) else graph


@contextmanager
def _seeded(inputs: Sequence[Any]) -> Iterator[None]:
    """Within the block, torch's generators begin at the same state; then they are put back."""
    devices = {tensor.device for _, tensor in tensors_in(inputs) if tensor.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        torch.manual_seed(SEED)
        yield


def _difference(truth: _Outcome, found: _Outcome) -> str | None:
    """The first thing that a run gave or left that is not what the other did, in words."""
    if shape_of(truth.output) != shape_of(found.output):
        return "the graph gives an output of another structure than the model"
    for (key, one), (_, other) in zip(tensors_in(truth.output), tensors_in(found.output), strict=False):
        if _can_be_compared(one, other) and not same_bits(one, other):
            return f"the graph gives another output{key} than the model: {apart(other, one)}"
    for name, buffer in truth.buffers.items():
        if name in found.buffers and _can_be_compared(buffer) and not same_bits(buffer, found.buffers[name]):
            return f"the graph leaves the buffer {name} otherwise than the model: {apart(found.buffers[name], buffer)}"
    alone = threading.active_count() == 1  # else another thread may have drawn
    if alone and not torch.equal(truth.generator, found.generator):
        return "the graph draws other random numbers than the model"
    return None


def _can_be_compared(*tensors: Tensor) -> bool:
    """Whether tensors have values in rows: those on the meta device have none, and nested ones have no shape."""
    return not any(tensor.is_meta or tensor.is_nested for tensor in tensors)


def _step_that_differs(order: Sequence[_Ran], traced: fx.GraphModule, mode: bool | None) -> Parting | None:
    """The first operation that one of the two runs and the other does not.

    Path by path, since functions of Python's (`getattr`, a function kept whole) are seen in a graph alone, and what
    runs inside them in the model alone.
    """
    ran: defaultdict[str, list[_Ran]] = defaultdict(list)
    for each in order:
        ran[each.path].append(each)
    known = list(operation_nodes(traced, _graph(traced, mode)))
    return _more_in_the_graph(ran, known) or _more_in_the_model(ran, known)


def _more_in_the_graph(ran: Mapping[str, list[_Ran]], known: _Known) -> Parting | None:
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


def _more_in_the_model(ran: Mapping[str, list[_Ran]], known: _Known) -> Parting | None:
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


_NOT_COMPARED = {*NOT_SEEN, "getitem", "getattr", "setitem", "requires_grad"}
"""Kinds of operations that Python's own steps, such as unpacking, may stand for."""


def _is_of_torch(target: Any) -> bool:
    home = getattr(target, "__module__", None) or "torch"
    return home.partition(".")[0] in ("torch", "_operator", "builtins", "math") or home == "surgery.graph.inplace"
