"""`torch.autograd.Function` while a model is traced: a function with its own gradient is one node.

Plain tracing goes into the function's forward. The graph then computes the same values, but its gradients are those of
the operations inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import Override, override_in_this_thread
from surgery.graph import autograd_functions as functions
from surgery.tracing.explanations import KEEP_WHOLE
from surgery.tracing.proxies import PROXIES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.tracing.tracer import ModelTracer

_Function: Any = torch.autograd.Function


def override_autograd(tracer: ModelTracer) -> Iterator[Override]:
    """Yield the overrides of each autograd function that is not torch's own, and of `parametrize.cached`.

    `apply` may have other names, as in ``blur = Blur.apply``. Under each it calls the class's `forward`.
    """
    yield _override_cached_parametrizations(tracer)
    for function in _find_subclasses(_Function):
        if not function.__module__.startswith("torch."):
            yield from _override_function(tracer, function)


def _find_subclasses(kind: Any) -> Iterator[Any]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _find_subclasses(subclass)


def _override_function(tracer: ModelTracer, function: Any) -> Iterator[Override]:
    """Yield the overrides of `forward` and `setup_context` of an autograd function.

    `functions.apply`, the target of the node, calls the originals when the graph runs.
    """
    forward, set_up = function.forward, function.setup_context
    has_set_up = set_up is not _Function.setup_context

    def record(*args: Any) -> Any:
        inputs = args if has_set_up else args[1:]
        if any(type(value) in PROXIES for value in inputs):
            return tracer.create_proxy("call_function", functions.apply, (functions.import_path(function), *inputs), {})
        return forward(*args)

    def set_up_unrecorded(context: Any, inputs: Any, output: Any) -> None:
        if type(output) not in PROXIES:
            set_up(context, inputs, output)

    _, _, call = override_in_this_thread(function, "forward", record, forward)
    yield function, "forward", staticmethod(call)
    if has_set_up:
        _, _, call = override_in_this_thread(function, "setup_context", set_up_unrecorded, set_up)
        yield function, "setup_context", staticmethod(call)


def _override_cached_parametrizations(tracer: ModelTracer) -> Override:
    """Return the override of `parametrize.cached`, which records a hazard: a graph computes the weights at each use."""
    parametrize: Any = torch.nn.utils.parametrize
    original = parametrize.cached

    def cached() -> Any:
        what = "parametrize.cached() has no effect: a graph computes weights at each use, and gradients differ slightly"
        tracer.note_hazard("state", what, KEEP_WHOLE)
        return original()

    return override_in_this_thread(parametrize, "cached", cached)
