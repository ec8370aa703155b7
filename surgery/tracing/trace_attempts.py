"""Traces a copy of a model, in several attempts that differ in which values are known while tracing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import fx, nn

from surgery.errors import TraceError
from surgery.graph import check_leaves_called, copy_isolating_hooks
from surgery.tracing.explanations import explain_failure, select_clearest_error
from surgery.tracing.side_effects import TraceFactory, trace_noting_side_effects
from surgery.tracing.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.eager import AttributeTensors, ExampleInputs, ExternalState
    from surgery.graph import Hazard, Leaves

_ATTEMPTS = ((True, False), (True, True), (False, False), (False, True))
"""For each attempt, whether factories are recorded, and whether settings are fixed."""


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """The arguments of `surgery.trace`, checked, and the state outside the model."""

    model: nn.Module
    inputs: ExampleInputs
    leaves: Leaves
    allow: Sequence[str]
    outside: ExternalState

    def check(self, hazard: Hazard) -> None:
        """Raise TraceError for a hazard that may change what is computed and is not allowed."""
        if hazard.changes_result and hazard.kind not in self.allow:
            raise TraceError(
                f"{type(self.model).__name__} can't be traced faithfully: {hazard}; {hazard.remedy}, or accept it "
                f"with allow=[{hazard.kind!r}] (--allow {hazard.kind})"
            )


@dataclass(frozen=True, slots=True)
class TracedCopy:
    """The graph of a copy of a model, whose targets begin with the holder's name for the model."""

    graph: fx.Graph
    holder: nn.Module
    hazards: tuple[Hazard, ...]
    attribute_tensors: AttributeTensors
    """The tensors that the copy held in its attributes before it was traced."""


def trace_copy(request: TraceRequest, model: nn.Module) -> TracedCopy:
    """Return the graph of a copy of `model`, which is the requested model in one of its modes.

    The first attempt records everything: tensors that are made, and flags and numbers among the inputs. Code that needs
    their values while it is traced, such as a loop over a list of rates, gets them in further attempts: there they are
    constants of the graph. Raises TraceError if all attempts fail.
    """
    failures: list[tuple[int, Exception]] = []
    for record_factories, fix_settings in _ATTEMPTS:
        if fix_settings and not request.inputs.settings:
            continue
        make_tracer = partial(
            ModelTracer, request.inputs, request.leaves, record_factories=record_factories, fix_settings=fix_settings
        )
        tracer = make_tracer()
        try:
            factory = TraceFactory(make_tracer, partial(_make_holder, model))
            graph, holder = trace_noting_side_effects(tracer, factory, request.outside)
        except Exception as error:  # noqa: BLE001 - the model's code may raise anything
            failures.append((tracer.operation_count, error))
            continue
        check_leaves_called(model, request.leaves, tracer.leaf_paths)
        return TracedCopy(graph, holder, tuple(dict.fromkeys(tracer.hazards)), tracer.attribute_tensors)
    clearest = select_clearest_error(failures)
    raise TraceError(explain_failure(model, clearest)) from clearest


def _make_holder(model: nn.Module) -> nn.Module:
    """Return a module with a copy of the model as its only child."""
    holder = nn.Module()
    setattr(holder, HOLDER, copy_isolating_hooks(model))
    holder.training = model.training
    return holder
