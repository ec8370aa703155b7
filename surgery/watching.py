"""Tracing with an eye on what the model's own Python does meanwhile: what it writes, draws and remembers."""

from __future__ import annotations

import random
import sys
from collections.abc import MutableMapping, MutableSequence, MutableSet
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, fx, nn

from surgery.hazards import Hazard
from surgery.memory import computes_the_same_again
from surgery.sources import shown, user_line
from surgery.tracer import HOLDER, ModelTracer
from surgery.twins import MODULES_OWN

if TYPE_CHECKING:
    import types
    from collections.abc import Callable


_KEEP_WHOLE = "keep the module around it whole with leaves=[...]"


def watched(make_tracer: Callable[[], ModelTracer], holder: nn.Module) -> tuple[fx.Graph, ModelTracer]:
    """The graph of the model in `holder`, and the tracer that made it, with the hazards that were found.

    Python's and numpy's random generators are put back.
    """
    tracer = make_tracer()
    model = holder.get_submodule(HOLDER)
    buffers, attributes = _buffers(model), _attributes(model)
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002 - the one that a model would draw from
    try:
        graph = tracer.run(holder)
        drawn = random.getstate() != generators[0] or str(np.random.get_state()) != str(generators[1])  # noqa: NPY002
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
    if drawn:
        tracer.hazards.append(
            Hazard(
                "random",
                shown(_drawing_line(make_tracer(), holder)),
                "random numbers are drawn from Python's or numpy's generator, and a graph keeps those that were drawn "
                "while tracing",
                "draw them with torch",
                changes=True,
            )
        )
    for name in _changed(buffers, _buffers(model)):
        what = f"forward writes or replaces the buffer {name} in a way that a graph can't hold, and it stays as it was"
        tracer.hazards.append(Hazard("buffer", None, what, f"write it in place ({name}.copy_(...))", changes=True))
    if changed := _changed(attributes, _attributes(model)):
        matters = not computes_the_same_again(graph, make_tracer(), holder)
        for name in changed:
            what = f"forward sets the attribute {name}" + (
                ", and computes something else for it: a graph has what was computed while tracing"
                if matters
                else "; a graph does not"
            )
            tracer.hazards.append(Hazard("attribute", None, what, _KEEP_WHOLE, changes=matters))
    for path in sorted(tracer.traced_into):
        module = model.get_submodule(path)
        if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001
            what = f"the hooks of {path or 'the model'} were traced: what they compute is in the graph, and they"
            tracer.hazards.append(Hazard("hook", None, f"{what} are not called again", "", changes=False))
    return graph, tracer


def _buffers(model: nn.Module) -> dict[str, Any]:
    return {name: (id(buffer), buffer._version) for name, buffer in model.named_buffers()}  # noqa: SLF001


def _attributes(model: nn.Module) -> dict[str, Any]:
    """A mark for each attribute of each module that changes when the attribute does."""
    return {
        f"{path}.{name}" if path else name: _mark(value)
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in MODULES_OWN and not name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
    }


def _mark(value: Any) -> object:
    if isinstance(value, (int, float, complex, str, bool, type(None))):
        return repr(value)
    if issubclass(type(value), fx.Proxy):
        return id(value)
    if type(value) is Tensor:
        return id(value), value._version  # noqa: SLF001
    return id(value), len(value) if isinstance(value, (MutableSequence, MutableMapping, MutableSet)) else 0


def _changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name in {**before, **after} if before.get(name) != after.get(name)]


def _drawing_line(tracer: ModelTracer, holder: nn.Module) -> tuple[str, int] | None:
    """The user's line that draws from Python's generator first; None where it is not seen (numpy's can't be)."""
    found: list[tuple[str, int] | None] = []

    def see(frame: types.FrameType, event: str, argument: Any) -> None:
        of_random = event == "c_call" and isinstance(getattr(argument, "__self__", None), random.Random)
        if of_random or (event == "call" and frame.f_code.co_filename == random.__file__):
            caller = frame
            while caller.f_code.co_filename == random.__file__ and caller.f_back is not None:
                caller = caller.f_back
            found.append(user_line(caller))

    state = random.getstate()
    before = sys.getprofile()
    sys.setprofile(see)
    try:
        tracer.run(holder)
    finally:
        sys.setprofile(before)
        random.setstate(state)
    return found[0] if found else None
