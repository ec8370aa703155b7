"""Runs of a model and of its graph on the example, and their results for a comparison.

While a model is traced, Python sees proxies: ``y is x`` is False for any two of them, whatever their values are. So a
graph may contain another branch than the model takes; a run of the model shows it. A graph may also contain the value
that a weight or a random number had while tracing; a second run, with other weights and inputs, shows that.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from surgery.eager import (
    ExampleError,
    ExternalState,
    RunOutcome,
    collect_outcome,
    copy_parameters,
    isolate_caches,
    run_observed,
    seed_generators,
)
from surgery.errors import TraceError, first_line
from surgery.graph import (
    GraphInterpreter,
    clone_inputs,
    contexts,
    copy_isolating_hooks,
    copy_sharing_parameters,
    graph_leaf_rule,
    graphs_by_mode,
    named_tensors,
    run_model,
    set_mode,
    tensor_specs,
)
from surgery.tracing.observed_operations import OrderObserver
from surgery.tracing.perturbation import named_state, perturb, perturb_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.eager import ExampleInputs
    from surgery.tracing.observed_operations import ObservedOperation


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model, its graph, and the settings of their runs."""

    model: nn.Module
    traced: fx.GraphModule
    inputs: ExampleInputs
    mode: bool | None
    """True for train mode, False for eval mode, None for their current modes."""
    outside: ExternalState
    runs_twice: bool = True
    perturbs_state: bool = True
    """Whether the second run has other parameters and buffers."""
    perturbs_inputs: bool = True
    """Whether the second run has other values in its inputs."""
    perturbs_first_run: bool = False
    """Whether the first run has these other values as well."""

    @property
    def graph(self) -> fx.Graph:
        """The graph of the mode."""
        graph = graphs_by_mode(self.traced).get(self.mode, self.traced.graph)
        return self.traced.graph if isinstance(graph, str) else graph

    def has_constants(self) -> bool:
        """Return whether the graph has tensors that are neither parameters nor buffers of the model."""
        names = {name for name, _ in named_state(self.model)}
        return any(node.op == "get_attr" and str(node.target) not in names for node in self.graph.nodes)

    def copy_inputs(self, *, second_run: bool = False) -> dict[str, Any]:
        """Return copies of the inputs by name, for the first or the second run."""
        inputs: dict[str, Any] = clone_inputs(self.inputs.example)
        if (second_run or self.perturbs_first_run) and self.perturbs_inputs:
            perturb(tensor for _, tensor in named_tensors(inputs))
        return inputs

    def copy_models(self) -> tuple[nn.Module, fx.GraphModule]:
        """Return copies of the model and of its graph that share no state with them that a run could change.

        If parameters are to be perturbed, both copies have the same copies of them.
        """
        needs_parameters = self.perturbs_state and (self.runs_twice or self.perturbs_first_run)
        parameters = copy_parameters(self.model.parameters()) if needs_parameters else {}
        model = copy_isolating_hooks(self.model, {**parameters})
        # The memo of the first copy would also copy the memory that a constant of the graph shares with a parameter.
        memo = {id(parameter): parameters.get(id(parameter), parameter) for parameter in self.model.parameters()}
        traced = copy_sharing_parameters(self.traced, memo)
        if self.perturbs_state and self.perturbs_first_run:
            perturb_state(model, traced, self.model)
        return set_mode(model, self.mode), set_mode(traced, self.mode)


@dataclass(slots=True)
class ComparedRuns:
    """The runs of a model and of its graph. A run that was not made is None; a failed run is its error."""

    model: RunOutcome
    operations: list[ObservedOperation]
    """The operations of the model's first run, in order."""
    changed_containers: list[str]
    """The names of the containers outside the copy of the model in which its first run left tensors."""
    graph: RunOutcome | Exception | None = None
    second_model: RunOutcome | Exception | None = None
    second_graph: RunOutcome | Exception | None = None
    changed_numbers: list[str] = field(default_factory=list)
    """The names of the numbers and texts outside of tensors that the second run of the model alone changed."""
    written_tensors: list[str] = field(default_factory=list)
    """The names of the tensors outside the model that its first run alone wrote to."""


def run_comparison(comparison: Comparison, *, with_graph: bool = True) -> ComparedRuns:
    """Run the model, and with `with_graph` its graph, once or twice. Raises ExampleError if the model does not run."""
    model, traced = comparison.copy_models()
    with _preserve_surroundings(comparison, model):
        versions = comparison.outside.tensor_versions()
        runs = _run_observing_operations(comparison, model)
        if with_graph:
            written, versions = comparison.outside.written_tensors(versions), comparison.outside.tensor_versions()
            runs.graph = _outcome_or_error(partial(_run_graph, comparison, traced))
            written_too = comparison.outside.written_tensors(versions)  # by hooks of leaves
            runs.written_tensors = [name for name in written if name not in written_too]
        if comparison.runs_twice:
            if comparison.perturbs_state:
                perturb_state(model, traced, comparison.model)
            state = ExternalState(model)
            runs.second_model = _outcome_or_error(partial(_run_model, comparison, model, second_run=True))
            if with_graph:
                changed, state_of_graph = state.changed_numbers(), ExternalState(traced)
                runs.second_graph = _outcome_or_error(partial(_run_graph, comparison, traced, second_run=True))
                changed_too = state_of_graph.changed_numbers()  # by hooks of leaves
                runs.changed_numbers = [name for name in changed if name not in changed_too]
    return runs


def copies_after_first_run(comparison: Comparison) -> tuple[nn.Module, fx.GraphModule]:
    """Return copies of the model and of its graph that have run once."""
    model, traced = comparison.copy_models()
    with _preserve_surroundings(comparison, model):
        _run_model(comparison, model)
        _run_graph(comparison, traced)
    return model, traced


def record_shapes(traced: fx.GraphModule, inputs: ExampleInputs, outside: ExternalState) -> None:
    """Run a graph on the example, and record shapes in its nodes. Raises TraceError if it fails."""
    comparison = Comparison(traced, traced, inputs, None, outside, runs_twice=False)
    try:
        _run_graph(comparison, copy_sharing_parameters(traced))
    except Exception as error:
        raise TraceError(f"the example does not run: {first_line(error)}") from error


@contextmanager
def _preserve_surroundings(comparison: Comparison, model: nn.Module) -> Iterator[None]:
    """Within the block, runs of a copy of the model do not change state outside it."""
    with torch.no_grad(), isolate_caches(model), comparison.outside.preserve():
        yield


def _outcome_or_error(run: Callable[[], RunOutcome]) -> RunOutcome | Exception:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - an operation may raise anything
        return error


def _run_observing_operations(comparison: Comparison, model: nn.Module) -> ComparedRuns:
    """Run a copy of the model for the first time."""
    arguments, keywords = comparison.inputs.split(comparison.copy_inputs())
    leaves = graph_leaf_rule(comparison.traced, comparison.graph)
    sources = [tensor for _, tensor in (*named_tensors([arguments, keywords]), *named_state(model))]
    observer = OrderObserver(sources)
    with seed_generators(arguments):
        try:
            output = run_observed(model, observer, arguments, keywords, leaves=leaves)
        except Exception as error:
            raise ExampleError(first_line(error)) from error
        outcome = collect_outcome(output, model)
    return ComparedRuns(outcome, observer.operations, [place.name for place in comparison.outside.changed()])


def _run_model(comparison: Comparison, model: nn.Module, *, second_run: bool = False) -> RunOutcome:
    arguments, keywords = comparison.inputs.split(comparison.copy_inputs(second_run=second_run))
    with seed_generators(arguments):
        return collect_outcome(run_model(model, arguments, keywords), model)


def _run_graph(comparison: Comparison, traced: fx.GraphModule, *, second_run: bool = False) -> RunOutcome:
    """Run a copy of the graph. The first run records shapes in the nodes of the original."""
    inputs = list(comparison.copy_inputs(second_run=second_run).values())
    with torch.no_grad(), seed_generators(inputs), contexts.closing():
        output = (GraphInterpreter if second_run else _ShapeRecorder)(traced).run(*inputs)
        if not second_run:
            for node, copied in zip(comparison.graph.nodes, traced.graph.nodes, strict=True):
                if "surgery_tensors" in copied.meta:
                    node.meta["surgery_tensors"] = copied.meta["surgery_tensors"]
        return collect_outcome(output, traced)


class _ShapeRecorder(GraphInterpreter):
    """Records in each node the shapes of its tensors."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op != "output":
            n.meta["surgery_tensors"] = tensor_specs(value)
        return value
