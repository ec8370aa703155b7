"""Models that are traced already: traced, rewritten and edited models, and parts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.errors import TraceError
from surgery.graph import TracedModule, trace_info
from surgery.observing import ObservedModel
from surgery.rewriting import remove_extractors
from surgery.tracing.example_runs import record_shapes

if TYPE_CHECKING:
    from torch import nn

    from surgery.eager import ExampleInputs, ExternalState
    from surgery.graph import Leaves


def is_traced(model: nn.Module) -> bool:
    """Whether `trace` has made a model, or it was made of one that it has made."""
    return isinstance(model, (TracedModule, ObservedModel))


def copy_traced(
    model: nn.Module, inputs: ExampleInputs, outside: ExternalState, front_end: str, leaves: Leaves
) -> nn.Module:
    """Return a copy of a traced model, with its edits and without its extractors.

    A graph gets the shapes of the example, if there is one. Raises TraceError if it does not run on it, and for another
    front end or for leaves, which only the model itself can be traced with.
    """
    name, made_by = type(model).__name__, trace_info(model).front_end
    if front_end not in ("auto", made_by):
        raise TraceError(f"{name} is a traced model, {made_by}; trace the model itself to have it {front_end}")
    if leaves:
        raise TraceError(f"{name} is a traced model, whose leaves are chosen; give leaves where the model is traced")
    traced: nn.Module = remove_extractors(model)
    if isinstance(traced, TracedModule) and inputs.example is not None:
        record_shapes(traced, inputs, outside)
    return traced
