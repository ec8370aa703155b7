"""Side effects of a model's Python code while it is traced: writes, random draws and stored values.

Python code in forward runs once, while tracing. A graph repeats the operations and nothing else: a counter stays as it
is, a number drawn by `random` stays the same, a hook is not called again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from surgery.eager import (
    changed_entries,
    find_mutating_line,
    fingerprint_attributes,
    fingerprint_buffers,
    fingerprint_hooks,
    generator_states,
    restore_generators,
)
from surgery.graph import Hazard, format_location
from surgery.tracing.cached_values import copy_constant, find_kept_constants, list_steps
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.random_generators import find_drawing_line, has_drawn_since
from surgery.tracing.recording import record_graph
from surgery.tracing.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.eager import ContainerSnapshot, ExternalState, Fingerprints


@dataclass(frozen=True, slots=True)
class TraceFactory:
    """Creates tracers and holders, so that a model can be traced several times."""

    make_tracer: Callable[[], ModelTracer]
    make_holder: Callable[[], nn.Module]
    """Returns a holder of a new copy of the model."""

    def gives_same_graph(self, first: ModelTracer) -> bool:
        """Return whether another trace of the model, in its state after the first trace, gives the same graph.

        Constants that the model has kept are computed again in the second trace, as a graph does in each run.
        """
        tracer, kept = self.make_tracer(), list(find_kept_constants(first.root, first.graph, first.written_nodes))

        def replace_kept_constants(_module: nn.Module, _inputs: Any) -> None:
            for container, key, node in kept:
                container[key] = copy_constant(node, tracer)

        handle = first.root.get_submodule(HOLDER).register_forward_pre_hook(replace_kept_constants, prepend=True)
        try:
            record_graph(tracer, first.root)
        except Exception:  # noqa: BLE001 - a model may raise anything on a value of an earlier run
            return False
        finally:
            handle.remove()
        return list_steps(first.graph, first.written_nodes) == list_steps(tracer.graph, tracer.written_nodes)

    def find_line(self, take: Callable[[nn.Module], object]) -> tuple[str, int] | None:
        """Trace a new copy, and return the user's line that first changes what `take` returns for it."""
        tracer, holder = self.make_tracer(), self.make_holder()
        model = holder.get_submodule(HOLDER)
        return find_mutating_line(lambda: take(model), lambda: record_graph(tracer, holder))


def trace_noting_side_effects(
    tracer: ModelTracer, factory: TraceFactory, outside: ExternalState
) -> tuple[fx.Graph, nn.Module]:
    """Return the graph of a model, and the holder of the copy that was traced; note side effects as hazards.

    `outside` is the state outside the model that its code can reach; it is restored. So are the generators of Python
    and numpy, if the model draws from them.
    """
    holder = factory.make_holder()
    model = holder.get_submodule(HOLDER)
    with outside.preserve():
        before = _take_fingerprints(model)
        generators = generator_states()
        graph = record_graph(tracer, holder)
        if has_drawn_since(generators):
            tracer.hazards += _find_draws(factory, generators)
        after = _take_fingerprints(model)
        tracer.hazards += _find_model_changes(before, after, tracer, factory)
        tracer.hazards += _find_values_kept_outside(tracer, factory, outside.changed())
        tracer.hazards += _find_hooks(model, tracer)
    return graph, holder


def _find_draws(factory: TraceFactory, before: Any) -> Iterator[Hazard]:
    """Yield the hazard of random numbers of Python or numpy, and put their generators back.

    Other threads draw from the same generators. While some run, there is a hazard only if a line of the model draws.
    """
    again, holder = factory.make_tracer(), factory.make_holder()
    line = find_drawing_line(lambda: record_graph(again, holder))
    if line is not None or threading.active_count() == 1:
        restore_generators(before)
        what = (
            "random numbers are drawn from Python's or numpy's generator, and a graph keeps those that were drawn "
            "while tracing"
        )
        yield Hazard("random", format_location(line), what, "draw them with torch", changes_result=True)


def _find_values_kept_outside(
    tracer: ModelTracer, factory: TraceFactory, changed: list[ContainerSnapshot]
) -> Iterator[Hazard]:
    """Yield the hazard of values that forward stores outside the model and another run reads."""
    if changed and not factory.gives_same_graph(tracer):
        names = ", ".join(dict.fromkeys(place.name or "a global name" for place in changed))
        what = (
            f"forward reads what an earlier run left outside the model ({names}), and a graph reads what this run left"
        )
        yield Hazard("state", None, what, "keep it in an attribute of the model", changes_result=True)


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
    factory: TraceFactory,
) -> Iterator[Hazard]:
    """Yield a hazard for each buffer, hook and attribute of the model that forward has changed.

    A recorded write to a buffer is in the graph, and leaves the buffer unchanged while tracing.
    """

    def find_line(kind: str, name: str) -> str | None:
        """Return the line that changes an entry: the recorded assignment, or else the line that another trace finds."""
        path, _, attribute = name.rpartition(".")
        owner = tracer.root.get_submodule(f"{HOLDER}.{path}" if path else HOLDER)
        line = tracer.assignment_lines.get((owner, attribute))
        return format_location(line or factory.find_line(lambda model: _FINGERPRINTS[kind](model).get(name)))

    for name in changed_entries(before["buffer"], after["buffer"]):
        what = f"forward writes or replaces the buffer {name} in a way that a graph can't hold, so it stays the same"
        remedy = f"write it in place ({name}.copy_(...))"
        yield Hazard("buffer", find_line("buffer", name), what, remedy, changes_result=True)
    for name in changed_entries(before["hook"], after["hook"]):
        what = f"{name} change while the model runs, and a graph keeps what they did while tracing"
        yield Hazard("hook", find_line("hook", name), what, KEEP_WHOLE, changes_result=True)
    if changed := changed_entries(before["attribute"], after["attribute"]):
        is_read_again = not factory.gives_same_graph(tracer)
        for name in changed:
            changes_result = is_read_again or name.rpartition(".")[2] == "training"
            what = f"forward sets the attribute {name}" + (
                ", and a later run may read it: a graph computes each time what was computed while tracing"
                if changes_result
                else "; a graph does not"
            )
            yield Hazard("attribute", find_line("attribute", name), what, KEEP_WHOLE, changes_result)


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
