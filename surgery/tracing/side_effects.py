"""Side effects of a model's Python code while it is traced: writes, random draws and stored values.

Python code in forward runs once, while tracing. A graph repeats the operations and nothing else: a counter stays as it
is, a number drawn by `random` stays the same, a hook is not called again.
"""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from surgery.eager import (
    changed_entries,
    fingerprint_attributes,
    fingerprint_buffers,
    fingerprint_hooks,
    generator_states,
    have_drawn_since,
    restore_generators,
)
from surgery.graph import Hazard, format_location
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.recording import record_graph
from surgery.tracing.retraces import retrace
from surgery.tracing.tracer import HOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from surgery.eager import ContainerSnapshot, ExternalState, Fingerprints
    from surgery.tracing.retraces import Retrace
    from surgery.tracing.tracer import ModelTracer


def trace_noting_side_effects(
    make_tracer: Callable[[], ModelTracer], holder: nn.Module, outside: ExternalState
) -> ModelTracer:
    """Trace the model in a holder, and return the tracer with its graph and, as hazards, its side effects.

    `outside` is the state outside the model that its code can reach; it is restored. So are the generators of Python
    and numpy. Other threads draw from the same: while some run, the model has drawn only if another trace differs.
    """
    tracer, model, generators = make_tracer(), holder.get_submodule(HOLDER), generator_states()
    trace_again = functools.cache(lambda: retrace(tracer, make_tracer()))
    is_alone, has_drawn = threading.active_count() == 1, False
    try:
        with outside.preserve():
            before = _take_fingerprints(model)
            record_graph(tracer, holder)
            has_drawn = have_drawn_since(generators)
            after, kept_outside = _take_fingerprints(model), outside.changed()
            has_drawn = has_drawn and (is_alone or not trace_again().is_same)
            if has_drawn:
                tracer.hazards.append(_draw_hazard(trace_again().line))
            tracer.hazards += _find_model_changes(before, after, tracer, trace_again)
            tracer.hazards += _find_values_kept_outside(kept_outside, trace_again)
            tracer.hazards += _find_hooks(model, tracer)
    finally:
        if is_alone or has_drawn:
            restore_generators(generators)
    return tracer


def _draw_hazard(line: str | None) -> Hazard:
    what = "random numbers are drawn from Python's or numpy's generator, and a graph keeps those of tracing"
    return Hazard("random", line, what, "draw them with torch", changes_result=True)


def _find_values_kept_outside(changed: list[ContainerSnapshot], trace_again: Callable[[], Retrace]) -> Iterator[Hazard]:
    """Yield the hazard of values that forward stores outside the model and another run reads."""
    if changed and not trace_again().is_same:
        names = ", ".join(dict.fromkeys(place.name or "a global name" for place in changed))
        what = (
            f"forward reads what an earlier run left outside the model ({names}), and a graph reads what this run left"
        )
        yield Hazard("state", trace_again().line, what, "keep it in an attribute of the model", changes_result=True)


def _take_fingerprints(model: nn.Module) -> dict[str, Fingerprints]:
    return {kind: take(model) for kind, take in _FINGERPRINTS.items()}


_FINGERPRINTS: dict[str, Callable[[nn.Module], Fingerprints]] = {
    "buffer": fingerprint_buffers,
    "attribute": fingerprint_attributes,
    "hook": fingerprint_hooks,
}


def _find_model_changes(
    before: dict[str, Fingerprints],
    after: dict[str, Fingerprints],
    tracer: ModelTracer,
    trace_again: Callable[[], Retrace],
) -> Iterator[Hazard]:
    """Yield a hazard for each buffer, hook and attribute of the model that forward has changed.

    A recorded write to a buffer is in the graph, and leaves the buffer unchanged while tracing.
    """

    def find_line(name: str) -> str | None:
        """Return the line that assigns an attribute, or else the line that reads what an earlier run left."""
        path, _, attribute = name.rpartition(".")
        owner = tracer.root.get_submodule(f"{HOLDER}.{path}" if path else HOLDER)
        return format_location(tracer.assignment_lines.get((owner, attribute))) or trace_again().line

    for name in changed_entries(before["buffer"], after["buffer"]):
        what = f"forward writes or replaces the buffer {name} in a way that a graph can't hold, so it stays the same"
        remedy = f"write it in place ({name}.copy_(...))"
        yield Hazard("buffer", find_line(name), what, remedy, changes_result=True)
    for name in changed_entries(before["hook"], after["hook"]):
        what = f"{name} change while the model runs, and a graph keeps what they did while tracing"
        yield Hazard("hook", None, what, KEEP_WHOLE, changes_result=True)
    for name in changed_entries(before["attribute"], after["attribute"]):
        changes_result = not trace_again().is_same or name.rpartition(".")[2] == "training"
        what = f"forward sets the attribute {name}" + (
            ", and a later run may read it: a graph computes each time what was computed while tracing"
            if changes_result
            else "; a graph does not"
        )
        yield Hazard("attribute", find_line(name), what, KEEP_WHOLE, changes_result)


def _find_hooks(model: nn.Module, tracer: ModelTracer) -> Iterator[Hazard]:
    """Yield a hazard for the hooks of each module that was traced into.

    Forward hooks are a note, since what they compute is recorded. Backward hooks may change gradients, and a graph
    has no backward hooks.
    """
    for path in sorted(tracer.traced_paths):
        module, name = model.get_submodule(path), path or "the model"
        if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001
            what = f"the hooks of {name} were traced: what they compute is in the graph, and they are not called again"
            yield Hazard("hook", None, what, "", changes_result=False)
        for hook in (*module._backward_hooks.values(), *module._backward_pre_hooks.values()):  # noqa: SLF001
            code = getattr(hook, "__code__", None)
            line = (code.co_filename, code.co_firstlineno) if code else None
            what = (
                f"the backward hooks of {name} are not called by a graph, so that its gradients don't pass through them"
            )
            yield Hazard("hook", format_location(line), what, KEEP_WHOLE, changes_result=True)
