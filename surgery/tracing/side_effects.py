"""Tracing with an eye on what the model's own Python does meanwhile: what it writes, draws and remembers."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

from surgery.eager import fingerprints as marks
from surgery.eager import kept_in, left_over
from surgery.graph import Hazard, format_location
from surgery.tracing.caches import computes_the_same_again
from surgery.tracing.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

    from surgery.eager import ExternalState, Place


_KEEP_WHOLE = "keep the module around it whole with leaves=[...]"


def watched(
    tracer: ModelTracer,
    make_tracer: Callable[[], ModelTracer],
    make_holder: Callable[..., nn.Module],
    outside: ExternalState,
) -> tuple[fx.Graph, nn.Module]:
    """The graph of the model in a holder, and the holder; the hazards that were found are noted in the tracer.

    `make_tracer` and `make_holder` make others for looking again.
    Python's and numpy's random generators are put back where the model draws from them.
    """
    copies: dict[int, Any] = {}
    holder = make_holder(copies)
    model = holder.get_submodule(HOLDER)
    tracer.kept = kept_in(model)
    with outside.kept():
        before = _looks(model)
        generators = _state_of_generators()
        graph = tracer.run(holder)
        tracer.hazards += _left_over(graph, holder, left_over(outside.changed(), copies))
        if _generators() != _comparable(generators):
            again, fresh = make_tracer(), make_holder()
            place = _line_that_draws(lambda: again.run(fresh))
            if place is not None or threading.active_count() == 1:  # other threads draw from the same generators
                _put_back(generators)
                what = (
                    "random numbers are drawn from Python's or numpy's generator, and a graph keeps those that were "
                    "drawn while tracing"
                )
                tracer.hazards.append(
                    Hazard("random", format_location(place), what, "draw them with torch", changes_result=True)
                )
        after = _looks(model)
        tracer.hazards += _changes(before, after, graph, tracer, holder, make_tracer, make_holder)
        tracer.hazards += _read_again(graph, holder, make_tracer, outside.changed())
        tracer.hazards += _hooks(model, tracer)
    return graph, holder


def _read_again(
    graph: fx.Graph, holder: nn.Module, make_tracer: Callable[[], ModelTracer], changed: list[Place]
) -> Iterator[Hazard]:
    """Values that forward leaves outside the model and another run reads, unless they are what it computes anew."""
    containers = [place.container for place in changed if isinstance(place.container, (dict, list))]
    if changed and not computes_the_same_again(graph, make_tracer(), holder, containers):
        names = ", ".join(dict.fromkeys(place.name or "a global name" for place in changed))
        what = f"forward reads what an earlier run left outside the model ({names}), and a graph what this run left"
        yield Hazard("state", None, what, "keep it in an attribute of the model", changes_result=True)


def _left_over(graph: fx.Graph, holder: nn.Module, names: dict[int, str]) -> Iterator[Hazard]:
    """Values of an earlier run that the graph would hold as constants, from containers that every run writes to."""
    for node in graph.nodes:
        if node.op != "get_attr" or str(node.target).startswith(f"{HOLDER}."):
            continue
        name = names.get(id(getattr(holder, str(node.target))))
        if name is not None:
            place = next((user.meta.get("surgery_source") for user in node.users), None)
            what = f"forward reads a value that an earlier run left in {name or 'a container'}, outside the model"
            yield Hazard(
                "state", format_location(place), what, "keep it in an attribute of the model", changes_result=True
            )


_Generators = tuple[Any, Any]
"""The states of the generators that a model would draw from: Python's and numpy's."""


def _state_of_generators() -> _Generators:
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def _put_back(states: _Generators) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def _comparable(states: _Generators) -> tuple[Any, ...]:
    kind, keys, *rest = states[1]
    return states[0], kind, bytes(keys), *rest


def _generators() -> tuple[Any, ...]:
    return _comparable(_state_of_generators())


def _line_that_draws(run: Callable[[], object]) -> tuple[str, int] | None:
    """The user's line in which this thread draws from Python's or numpy's generator while `run` runs.

    Other threads draw from the same generators: beside them only code that names something of `random` is looked at.
    """
    alone = threading.active_count() == 1

    def may_draw(code: CodeType) -> bool:
        return alone or ("numpy" not in code.co_filename and bool(_DRAWING & {*code.co_names}))

    return marks.line_that_changes(_generators, run, among=may_draw)


_DRAWING = {name for home in (random, np.random) for name in dir(home) if name[0].islower()}


def _looks(model: nn.Module) -> dict[str, marks.Marks]:
    return {"buffer": marks.buffers(model), "attribute": marks.attributes(model), "hook": marks.hooks(model)}


def _changes(
    before: dict[str, marks.Marks],
    after: dict[str, marks.Marks],
    graph: fx.Graph,
    tracer: ModelTracer,
    holder: nn.Module,
    make_tracer: Callable[[], ModelTracer],
    make_holder: Callable[[], nn.Module],
) -> Iterator[Hazard]:
    """What forward does to the model itself."""

    def line(kind: str, name: str) -> str | None:
        """Where it is done: as `nn.Module.__setattr__` saw it, else by looking after each line of another tracing."""
        path, _, attribute = name.rpartition(".")
        owner = holder.get_submodule(f"{HOLDER}.{path}" if path else HOLDER)
        if place := tracer.sets.get((owner, attribute)):
            return format_location(place)
        again, fresh = make_tracer(), make_holder()
        model = fresh.get_submodule(HOLDER)
        return format_location(marks.line_that_changes(lambda: _looks(model)[kind].get(name), lambda: again.run(fresh)))

    for name in marks.changed(before["buffer"], after["buffer"]):
        what = f"forward writes or replaces the buffer {name} in a way that a graph can't hold, and it stays as it was"
        remedy = f"write it in place ({name}.copy_(...))"
        yield Hazard("buffer", line("buffer", name), what, remedy, changes_result=True)
    for name in marks.changed(before["hook"], after["hook"]):
        what = f"{name} change while the model runs, and a graph keeps what they did while tracing"
        yield Hazard("hook", line("hook", name), what, _KEEP_WHOLE, changes_result=True)
    if changed := marks.changed(before["attribute"], after["attribute"]):
        matters = not computes_the_same_again(graph, make_tracer(), holder)
        for name in changed:
            mode = name.rpartition(".")[2] == "training"
            what = f"forward sets the attribute {name}" + (
                ", and a later run may read it: a graph computes each time what was computed while tracing"
                if matters or mode
                else "; a graph does not"
            )
            yield Hazard("attribute", line("attribute", name), what, _KEEP_WHOLE, changes_result=matters or mode)


def _hooks(model: nn.Module, tracer: ModelTracer) -> Iterator[Hazard]:
    """What becomes of the hooks of modules that are traced into."""
    for path in sorted(tracer.traced_into):
        module, name = model.get_submodule(path), path or "the model"
        if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001
            what = f"the hooks of {name} were traced: what they compute is in the graph, and they are not called again"
            yield Hazard("hook", None, what, "", changes_result=False)
        for hook in (*module._backward_hooks.values(), *module._backward_pre_hooks.values()):  # noqa: SLF001
            code = getattr(hook, "__code__", None)
            place = (code.co_filename, code.co_firstlineno) if code else None
            what = (
                f"the backward hooks of {name} are not called by a graph, and its gradients are what they are without"
            )
            yield Hazard("hook", format_location(place), what, _KEEP_WHOLE, changes_result=True)
