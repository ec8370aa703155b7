"""Another trace of a model, in the state that the first trace left.

It shows whether a run depends on what the run before it left: a counter, a stored value, a random generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.graph import format_location
from surgery.tracing.cached_values import copy_constant, find_kept_constants, list_steps
from surgery.tracing.explanations import locate_error
from surgery.tracing.recording import record_graph
from surgery.tracing.tracer import HOLDER

if TYPE_CHECKING:
    from torch import nn

    from surgery.tracing.tracer import ModelTracer


@dataclass(frozen=True, slots=True)
class Retrace:
    """What another trace gives."""

    is_same: bool
    """Whether it gives the same graph."""
    line: str | None = None
    """The line of the first operation that differs, or that can't be traced any more."""


def retrace(first: ModelTracer, again: ModelTracer) -> Retrace:
    """Trace a model once more with the tracer `again`, and compare the graphs.

    Constants that the model has kept are computed again, as a graph does in each run.
    """
    kept = list(find_kept_constants(first.root, first.graph, first.written_nodes))

    def replace_kept_constants(_module: nn.Module, _inputs: Any) -> None:
        for container, key, node in kept:
            container[key] = copy_constant(node, again)

    handle = first.root.get_submodule(HOLDER).register_forward_pre_hook(replace_kept_constants, prepend=True)
    try:
        record_graph(again, first.root)
    except Exception as error:  # noqa: BLE001 - a model may raise anything on a value of an earlier run
        return Retrace(is_same=False, line=format_location(locate_error(error)[0]))
    finally:
        handle.remove()
    ours, theirs = list_steps(first.graph, first.written_nodes), list_steps(again.graph, again.written_nodes)
    differing = (node for (node, step), other in zip(ours.items(), theirs.values(), strict=False) if step != other)
    line = next((node.meta["surgery_source"] for node in differing), None)
    return Retrace(list(ours.values()) == list(theirs.values()), format_location(line))
