"""One call of a model, recorded as a graph with all overrides of torch and Python in force."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import isolate_caches
from surgery.graph import Hazard, format_location
from surgery.tracing.builtin_overrides import override_builtins
from surgery.tracing.error_monitor import monitor_proxy_errors
from surgery.tracing.function_mode import TracingFunctionMode
from surgery.tracing.torch_overrides import override_torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import fx, nn

    from surgery.tracing.tracer import ModelTracer


def record_graph(tracer: ModelTracer, holder: nn.Module) -> fx.Graph:
    """Return the graph of one call of the model in a holder, and add the hazards of the call to the tracer."""
    tracer.attach(holder)
    with ExitStack() as stack:
        stack.enter_context(_mark_thread_as_tracing())
        stack.enter_context(torch.set_grad_enabled(torch.is_grad_enabled()))  # the model may set it
        stack.enter_context(override_torch(tracer))
        stack.enter_context(override_builtins(holder))
        stack.enter_context(isolate_caches(holder, tracer.note_cached_result))
        stack.enter_context(TracingFunctionMode(tracer))
        errors = stack.enter_context(monitor_proxy_errors())
        graph = tracer.record_call()
    for line, message in errors:
        what = f"a `try` hides that this can't be traced ({message})"
        tracer.hazards.append(Hazard("swallowed", format_location(line), what, "remove the `try`", changes_result=True))
    tracer.note_texts()
    return graph


@contextmanager
def _mark_thread_as_tracing() -> Iterator[None]:
    """Mark this thread as tracing, in versions of torch that have such a flag for each thread.

    Torch code that can't be traced, such as a compiled function, reads the flag and raises an error.
    """
    symbolic: Any = torch.fx._symbolic_trace  # noqa: SLF001
    block = getattr(symbolic, "_is_fx_tracing_context", None)
    with block(True) if block is not None else nullcontext():
        yield
