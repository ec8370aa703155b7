"""Runs of the model on the example beside runs of its graph.

While a model is traced, Python answers for stand-ins: ``y is x`` is False for any two of them, whatever the values are.
So a graph may hold another branch than the model takes. A run of the model shows it. A graph may also hold a value that
Python had while tracing, of a weight or of a random generator: a second run, with other weights, shows that.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.eager import changed_entries, fingerprint_attributes, isolate_caches, output_structure, run_observed
from surgery.errors import TraceError, first_line
from surgery.graph import (
    GraphInterpreter,
    clone_inputs,
    contexts,
    copy_isolating_hooks,
    copy_sharing_parameters,
    graphs_by_mode,
    named_tensors,
    run_model,
    set_mode,
    tensor_specs,
)
from surgery.tracing.operation_order import Order
from surgery.tracing.perturbing import parameters_of_its_own, perturb, perturb_state, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surgery.eager import AttributeTensors, ExternalState
    from surgery.tracing.example_inputs import GraphInputs
    from surgery.tracing.operation_order import Ran

SEED = 0
"""Of torch's random generator, before each run."""


class ExampleError(Exception):
    """The model itself does not run on the example."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model and a graph of it, and how they are to be run."""

    model: nn.Module
    traced: fx.GraphModule
    inputs: GraphInputs
    mode: bool | None
    """Train mode, eval mode, or for None as they are."""
    outside: ExternalState
    attribute_tensors: AttributeTensors
    twice: bool = True
    """Whether there is a second run."""
    weights: bool = True
    """Whether the second run has other parameters and buffers."""
    values: bool = True
    """Whether the second run has other values in its inputs."""
    early: bool = False
    """Whether the first run has them already."""

    @property
    def graph(self) -> fx.Graph:
        """The graph of the mode."""
        graph = graphs_by_mode(self.traced).get(self.mode, self.traced.graph)
        return self.traced.graph if isinstance(graph, str) else graph

    def given(self, *, again: bool = False) -> dict[str, Any]:
        """Copies of the inputs by name, for the first run or the second."""
        given: dict[str, Any] = clone_inputs(self.inputs.example)
        if (again or self.early) and self.values:
            perturb(tensor for _, tensor in named_tensors(given))
        return given

    def copies(self) -> tuple[nn.Module, fx.GraphModule]:
        """Copies of the model and of its graph that share with them nothing that a run could change.

        For other values the copies have parameters of their own, which are the same for both.
        """
        own = parameters_of_its_own(self.model) if self.weights and (self.twice or self.early) else {}
        subject = copy_isolating_hooks(self.model, {**own})
        # Only the parameters: memory that a constant of the graph shares with one, it no longer does in a copy.
        same = {id(parameter): own.get(id(parameter), parameter) for parameter in self.model.parameters()}
        traced = copy_sharing_parameters(self.traced, same)
        if self.weights and self.early:
            perturb_state(subject, traced, self.model)
        return set_mode(subject, self.mode), set_mode(traced, self.mode)


@dataclass(slots=True)
class Outcome:
    """What a run gives and leaves behind."""

    structure: Any
    """Of the output."""
    tensors: list[tuple[str, Tensor]]
    """Those of the output, and where in it they are."""
    buffers: dict[str, Tensor]
    generator: Tensor


@dataclass(slots=True)
class Runs:
    """What the model and its graph do, in the first run and in the second."""

    model: Outcome
    order: list[Ran]
    changed: set[str]
    """The attributes that the model's first run changed."""
    graph: Outcome | Exception | None = None
    model_again: Outcome | Exception | None = None
    graph_again: Outcome | Exception | None = None
    """Each is None where it was not run, and else what it gave or raised."""


def learn_shapes(traced: fx.GraphModule, inputs: GraphInputs, outside: ExternalState) -> None:
    """Note in the nodes of a graph what they give on the example. Raises TraceError where it does not run."""
    comparison = Comparison(traced, traced, inputs, None, outside, {}, twice=False)
    try:
        _run_graph(comparison, copy_sharing_parameters(traced))
    except Exception as error:
        raise TraceError(f"the example does not run: {first_line(error)}") from error


@contextmanager
def _apart(comparison: Comparison, subject: nn.Module) -> Iterator[None]:
    """Within the block, runs of the model leave nothing outside it."""
    with torch.no_grad(), isolate_caches(subject), comparison.outside.preserve():
        yield


def both_runs(comparison: Comparison, *, graph: bool = True) -> Runs:
    """Both runs, of the model and, if it is asked for, of the graph."""
    subject, traced = comparison.copies()
    with _apart(comparison, subject):
        runs = _first_run(comparison, subject)
        if graph:
            runs.graph = _attempt(partial(_run_graph, comparison, traced))
        if comparison.twice:
            if comparison.weights:
                perturb_state(subject, traced, comparison.model)
            runs.model_again = _attempt(partial(_run, comparison, subject, again=True))
            if graph:
                runs.graph_again = _attempt(partial(_run_graph, comparison, traced, again=True))
    return runs


def copies_after_a_run(comparison: Comparison) -> tuple[nn.Module, fx.GraphModule]:
    """Copies of the model and its graph as they are after they have run once."""
    subject, traced = comparison.copies()
    with _apart(comparison, subject):
        _run(comparison, subject)
        _run_graph(comparison, traced)
    return subject, traced


def _attempt(run: Callable[[], Outcome]) -> Outcome | Exception:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - whatever an operation raises
        return error


def _first_run(comparison: Comparison, subject: nn.Module) -> Runs:
    given, named = comparison.inputs.split(comparison.given())
    graph = comparison.graph
    whole = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    watcher = Order(whole, [tensor for _, tensor in (*named_tensors([given, named]), *state_of(subject))])
    kept_whole = [node.target for node in graph.nodes if node.op == "call_function"]
    before = [fingerprint_attributes(module) for module in (subject, comparison.model)]
    with _seeded(given):
        try:
            output = run_observed(subject, watcher, given, kept_whole, named)
        except Exception as error:
            raise ExampleError(first_line(error)) from error
        outcome = _outcome(output, subject)
    # A hook may write to the model by its name.
    after = [fingerprint_attributes(module) for module in (subject, comparison.model)]
    changed = {name for pair in zip(before, after, strict=True) for name in changed_entries(*pair)}
    return Runs(outcome, watcher.ran, changed)


def _run(comparison: Comparison, subject: nn.Module, *, again: bool = False) -> Outcome:
    given, named = comparison.inputs.split(comparison.given(again=again))
    with _seeded(given):
        return _outcome(run_model(subject, given, named), subject)


def _outcome(output: Any, subject: nn.Module) -> Outcome:
    """What a run gave, with copies of the tensors, which a later run may write."""
    tensors = [(key, tensor.clone()) for key, tensor in named_tensors(output)]
    buffers = {name: buffer.clone() for name, buffer in subject.named_buffers()}
    return Outcome(output_structure(output), tensors, buffers, torch.random.get_rng_state())


def _run_graph(comparison: Comparison, subject: fx.GraphModule, *, again: bool = False) -> Outcome:
    given = list(comparison.given(again=again).values())
    with torch.no_grad(), _seeded(given), contexts.closing():
        output = (GraphInterpreter if again else _Shapes)(subject).run(*given)
        if not again:
            for node, ran in zip(comparison.graph.nodes, subject.graph.nodes, strict=True):
                if "surgery_tensors" in ran.meta:
                    node.meta["surgery_tensors"] = ran.meta["surgery_tensors"]
        return _outcome(output, subject)


class _Shapes(GraphInterpreter):
    """Notes with each node which tensors it gave."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "output":
            n.meta["surgery_tensors"] = tensor_specs(value)
        return value


@contextmanager
def _seeded(inputs: Sequence[Any]) -> Iterator[None]:
    """Within the block, torch's generators begin at the same state; then they are put back."""
    devices = {tensor.device for _, tensor in named_tensors(inputs) if tensor.is_cuda}
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        torch.manual_seed(SEED)
        yield
