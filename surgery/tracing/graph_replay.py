"""The comparison of a graph with the record of a run: whether it makes the same calls with the same arguments.

Then it computes what the model computes, whatever the values of inputs, parameters and buffers are: nothing has to be
computed a second time, and no second run has to show that the graph holds no values of the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from surgery.graph import GraphInterpreter, contexts, tensor_specs
from surgery.tracing.call_recording import reads_metadata, record_run
from surgery.tracing.perturbation import named_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.eager import ObservedCall
    from surgery.tracing.call_recording import RecordedRun
    from surgery.tracing.example_runs import Comparison


def makes_the_same_calls(comparison: Comparison) -> bool:
    """Return whether a graph is known to make the calls that its model makes, and record the shapes in its nodes.

    The model runs once. False says nothing: the model may do what can't be compared in this way. Raises ExampleError if
    the model does not run on the example.
    """
    if not all(map(_can_be_replayed, comparison.graph.nodes)) or comparison.has_constants():
        return False
    run = record_run(comparison)
    if run is None:
        return False
    try:
        with torch.no_grad():
            GraphReplay(comparison, run).check()
    except Exception:  # noqa: BLE001 - whatever an operation raises on the values of another
        return False
    return True


class DifferentCallError(Exception):
    """The graph makes a call that the run did not make, or makes it with other arguments."""


class GraphReplay(GraphInterpreter):
    """Runs a graph on the record of a run: each call of a function of torch or of a leaf returns what it did there.

    What is no such call is computed, such as sizes and indices.
    """

    def __init__(self, comparison: Comparison, run: RecordedRun) -> None:
        super().__init__(comparison.traced, graph=comparison.graph)
        self._run_record = run
        self._calls = iter(run.calls)
        self._next = next(self._calls, None)
        self._state = dict(named_state(run.model))
        self._mode = _ReplayMode(self)

    def check(self) -> None:
        """Raise DifferentCallError unless the graph makes all calls of the run, in order, and gives the same output."""
        with self._mode:
            output = self.run(*self._run_record.inputs.values())
        if self._next is not None or not is_same(output, self._run_record.output):
            raise DifferentCallError

    def run_node(self, n: fx.Node) -> Any:
        """Run a node, and record its shapes."""
        value = super().run_node(n)
        if n.op != "output":
            n.meta["surgery_tensors"] = tensor_specs(value)
        return value

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Return the parameter or buffer of the copy that ran."""
        del args, kwargs
        return self._state[str(target)]

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of the recorded call of a leaf."""
        expected = self._next
        if expected is None or not expected.is_module or expected.path != target:
            raise DifferentCallError
        return self.take(expected.function, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, or return the value of the recorded call of a function that is observed whole."""
        if target is torch._assert:  # noqa: SLF001 - it is not in the record, since the model may have an `assert`
            if not args[0]:
                raise DifferentCallError
            return None
        expected = self._next
        if expected is not None and expected.function is target and _have_same(expected, args, kwargs):
            return self.take(target, args, kwargs)
        if not _can_be_called(target):
            raise DifferentCallError
        return target(*args, **kwargs)

    def take(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the value of the next recorded call. Raises DifferentCallError if it is not this call."""
        expected = self._next
        if expected is None or expected.function != function or not _have_same(expected, args, kwargs):
            raise DifferentCallError
        self._next = next(self._calls, None)
        return expected.value


class _ReplayMode(TorchFunctionMode):
    """Answers the calls of functions of torch from a record."""

    def __init__(self, replay: GraphReplay) -> None:
        super().__init__()
        self._replay = replay

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        return func(*args, **kwargs) if reads_metadata(func) else self._replay.take(func, args, kwargs)


def is_same(value: Any, other: Any) -> bool:
    """Return whether two values are the same objects, equal numbers or texts, or containers of such values."""
    kind = type(value)
    if value is other or kind is not type(other) or isinstance(value, Tensor):
        return value is other
    if kind in (float, complex):
        return repr(value) == repr(other)  # tells 0.0 from -0.0
    if issubclass(kind, _COMPARABLE):
        return bool(value == other)
    parts, others = _parts(value), _parts(other)
    return parts is not None and others is not None and len(parts) == len(others) and all(map(is_same, parts, others))


_COMPARABLE = (int, str, bytes, torch.dtype, torch.device, torch.memory_format, torch.layout)


def _parts(value: Any) -> list[Any] | None:
    """Return what a container consists of; None for what is no container."""
    if isinstance(value, slice):
        return [value.start, value.stop, value.step]
    if dataclasses.is_dataclass(value):  # before mappings: the outputs of transformers are both
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    return list(value) if isinstance(value, (list, tuple)) else None


def _have_same(call: ObservedCall, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return is_same(tuple(call.args), tuple(args)) and is_same(dict(call.kwargs), dict(kwargs))


def _can_be_replayed(node: fx.Node) -> bool:
    return node.target not in _BLOCKS


_BLOCKS = {contexts.enter_grad, contexts.enter_inference, contexts.enter_autocast, contexts.leave_grad, contexts.leave}


def _can_be_called(function: Any) -> bool:
    """Return whether a function of a graph does no more than compute, and calls functions of torch for that."""
    home = (getattr(function, "__module__", None) or "").partition(".")[0]
    if home in ("_operator", "builtins", "math", "surgery") or isinstance(function, type):
        return True
    return torch.overrides.resolve_name(function) is not None
