"""Traces a copy of a model, so that the model stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from surgery.errors import TraceError
from surgery.graph import check_leaves_called, copy_isolating_hooks
from surgery.tracing.explanations import explain_failure
from surgery.tracing.side_effects import trace_noting_side_effects
from surgery.tracing.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.eager import ExampleInputs, ExternalState
    from surgery.graph import Hazard, Leaves


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


def trace_copy(request: TraceRequest, model: nn.Module, copy: nn.Module | None = None) -> ModelTracer:
    """Trace a copy of `model`, which is the requested model in one of its modes, and return the tracer.

    `copy` is such a copy, which is used up; by default a new one is made. Raises TraceError if it can't be traced.
    """
    make_tracer = partial(ModelTracer, request.inputs, request.leaves)
    try:
        tracer = trace_noting_side_effects(
            make_tracer, _make_holder(copy_isolating_hooks(model) if copy is None else copy), request.outside
        )
    except Exception as error:
        raise TraceError(explain_failure(model, error)) from error
    check_leaves_called(model, request.leaves, tracer.leaf_paths)
    return tracer


def _make_holder(model: nn.Module) -> nn.Module:
    """Return a module with a model as its only child."""
    holder = nn.Module()
    setattr(holder, HOLDER, model)
    holder.training = model.training
    return holder
