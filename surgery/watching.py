"""Tracing with an eye on what the model's own Python does meanwhile: what it writes, draws and remembers."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

from surgery import marks
from surgery.hazards import Hazard
from surgery.memory import computes_the_same_again
from surgery.sources import shown
from surgery.tracer import HOLDER, ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_KEEP_WHOLE = "keep the module around it whole with leaves=[...]"


def watched(
    make_tracer: Callable[[], ModelTracer], make_holder: Callable[[], nn.Module]
) -> tuple[fx.Graph, ModelTracer, nn.Module]:
    """The graph of the model in a holder, the tracer that made it, with the hazards that were found, and the holder.

    Python's and numpy's random generators are put back.
    """
    tracer, holder = make_tracer(), make_holder()
    model = holder.get_submodule(HOLDER)
    before = _looks(model)
    with _generators_put_back():
        generators = _generators()
        graph = tracer.run(holder)
        drawn = _generators() != generators
    if drawn:
        what = (
            "random numbers are drawn from Python's or numpy's generator, and a graph keeps those that were drawn "
            "while tracing"
        )
        again, fresh = make_tracer(), make_holder()
        with _generators_put_back():
            place = marks.line_that_changes(_generators, lambda: again.run(fresh))
        tracer.hazards.append(Hazard("random", shown(place), what, "draw them with torch", changes=True))
    after = _looks(model)
    tracer.hazards += _changes(before, after, graph, tracer, holder, make_tracer, make_holder)
    tracer.hazards += _hooks(model, tracer)
    return graph, tracer, holder


def _generators() -> tuple[Any, ...]:
    """The state of the generators that a model would draw from, of Python and of numpy."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return random.getstate(), kind, bytes(keys), *rest  # type: ignore[arg-type]


@contextmanager
def _generators_put_back() -> Iterator[None]:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


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
            return shown(place)
        again, fresh = make_tracer(), make_holder()
        model = fresh.get_submodule(HOLDER)
        return shown(marks.line_that_changes(lambda: _looks(model)[kind].get(name), lambda: again.run(fresh)))

    for name in marks.changed(before["buffer"], after["buffer"]):
        what = f"forward writes or replaces the buffer {name} in a way that a graph can't hold, and it stays as it was"
        remedy = f"write it in place ({name}.copy_(...))"
        yield Hazard("buffer", line("buffer", name), what, remedy, changes=True)
    for name in marks.changed(before["hook"], after["hook"]):
        what = f"{name} change while the model runs, and a graph keeps what they did while tracing"
        yield Hazard("hook", line("hook", name), what, _KEEP_WHOLE, changes=True)
    if changed := marks.changed(before["attribute"], after["attribute"]):
        matters = not computes_the_same_again(graph, make_tracer(), holder)
        for name in changed:
            mode = name.rpartition(".")[2] == "training"
            what = f"forward sets the attribute {name}" + (
                ", and computes something else for it: a graph has what was computed while tracing"
                if matters or mode
                else "; a graph does not"
            )
            yield Hazard("attribute", line("attribute", name), what, _KEEP_WHOLE, changes=matters or mode)


def _hooks(model: nn.Module, tracer: ModelTracer) -> Iterator[Hazard]:
    """What becomes of the hooks of modules that are traced into."""
    for path in sorted(tracer.traced_into):
        module, name = model.get_submodule(path), path or "the model"
        if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001
            what = f"the hooks of {name} were traced: what they compute is in the graph, and they are not called again"
            yield Hazard("hook", None, what, "", changes=False)
        for hook in (*module._backward_hooks.values(), *module._backward_pre_hooks.values()):  # noqa: SLF001
            code = getattr(hook, "__code__", None)
            place = (code.co_filename, code.co_firstlineno) if code else None
            what = (
                f"the backward hooks of {name} are not called by a graph, and its gradients are what they are without"
            )
            yield Hazard("hook", shown(place), what, _KEEP_WHOLE, changes=True)
