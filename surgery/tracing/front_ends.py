"""`trace`: from a model to a traced model, by symbolic tracing where it is faithful, else by observing it."""

from __future__ import annotations

from contextvars import copy_context
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from surgery.eager import (
    ExampleError,
    ExternalState,
    bind_example,
    check_initialized,
    explain_dict,
    lock_global_state,
    remember_namespaces,
)
from surgery.errors import TraceError, first_line
from surgery.graph import HAZARD_KINDS, FrontEnd
from surgery.observing import observe
from surgery.tracing.symbolic import trace_symbolically
from surgery.tracing.thread_state import restore_thread_state
from surgery.tracing.traced_copy import TraceRequest
from surgery.tracing.traced_models import copy_traced, is_traced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from surgery.graph import Leaves


def trace(
    model: nn.Module,
    example: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    front_end: FrontEnd | Literal["auto"] = "auto",
    leaves: Leaves = (),
    allow: Sequence[str] = (),
) -> nn.Module:
    """Return `model` as a module that computes what the model computes, and whose operations can be selected.

    With `front_end` ``symbolic`` it is a `torch.fx.GraphModule`, with a graph for train mode and one for eval mode.
    With ``observed`` it is a copy of the model that runs the model's own Python, and whose operations are seen as they
    return: any Python will do, and there is no graph. ``auto`` is symbolic where the graph does what the model does,
    and otherwise observed if there is an example. The attribute `reason` of the result then says why.

    The traced model has the model's `state_dict` keys and shares its parameters until it is moved or converted. Its
    buffers and modules are copies, and so are parameters that forward writes to, so that running it, changing its mode
    or moving it does not touch the model. Hooks of the model run as part of it.

    `example` is a tensor, the sequence of the model's positional inputs, or a dict of its inputs by the names of
    `forward`'s parameters. A copy of the model runs on it in each mode, which leaves buffers and random generators as
    they were. If its graph does something else, there is no graph. The operations know their shapes, and those of an
    observed model are the operations of this run. Flags, names and None in the example become constants of the graph.
    Without an example, the inputs are the parameters of `forward` that have no default, and nothing is compared.

    A model that is traced already is returned as it is: a copy with its edits, and without its extractors.

    `leaves` are modules to be kept whole: classes, names of classes, or paths with the wildcards of a shell.

    The graph records blocks such as ``no_grad`` and ``autocast``, tensors and random numbers that forward makes,
    buffers that it writes, and in-place operators. There is no graph if there is anything that it can't record and that
    may change a result, unless `allow` names its kind (see `surgery.graph.hazard_kinds`).

    Models may be traced in several threads; each waits for the one before. Other threads may run models meanwhile.

    Raises TraceError, naming the line that can't be traced and what to do about it, if the model can't be traced, or
    does not run on the example.
    """
    if front_end not in ("auto", *get_args(FrontEnd)):
        raise TraceError(f"there is no front end {front_end!r}; there are auto, {' and '.join(get_args(FrontEnd))}")
    with lock_global_state(), remember_namespaces(), restore_thread_state(), torch.inference_mode(False):
        model = unwrap_model(model)
        try:
            # In a copy of the context, so that context variables that forward sets are as before afterwards.
            return copy_context().run(_trace, model, example, front_end, leaves, allow)
        except ExampleError as error:
            if (advice := explain_dict(model, example)) is None:
                raise
            raise ExampleError(f"{error}; {advice}") from error


def _trace(model: nn.Module, example: Any, front_end: str, leaves: Leaves, allow: Sequence[str]) -> nn.Module:
    for kind in set(allow) - set(HAZARD_KINDS):
        raise TraceError(f"no kind of hazard is called {kind!r}; there are {', '.join(HAZARD_KINDS)}")
    inputs = bind_example(model, example)
    check_initialized(model)
    outside = ExternalState(model)
    if is_traced(model):
        return copy_traced(model, inputs, outside, front_end, leaves)
    if front_end == "observed":
        if example is None:
            raise TraceError("a model is observed while it runs on an example; give one: surgery.trace(model, example)")
        return observe(model, inputs, outside, leaves=leaves)
    request = TraceRequest(model, inputs, leaves, allow, outside)
    if front_end == "symbolic":
        return trace_symbolically(request)
    if example is None:
        try:
            return trace_symbolically(request)
        except TraceError as error:
            raise TraceError(f"{error}; or give an example input, on which the model is observed as it runs") from error
    try:
        return trace_symbolically(request)
    except TraceError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - torch.fx may raise anything on code that it was not made for
        reason = f"torch.fx fails: {type(error).__name__}: {first_line(error)}"
    return observe(model, inputs, outside, leaves=leaves, reason=reason)


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the module inside the wrappers of `torch.compile`, `DataParallel` and `DistributedDataParallel`.

    Raises TraceError for TorchScript, which has no Python code to trace, and for anything but a module.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]  # noqa: SLF001
        elif isinstance(model, torch.jit.ScriptModule):
            raise TraceError("a TorchScript module can't be traced; trace the Python module that it was made from")
        elif not isinstance(model, nn.Module):
            advice = (
                "; surgery.load_model opens a model by its name or file" if isinstance(model, str | PathLike) else ""
            )
            raise TraceError(f"only an nn.Module can be traced, not {type(model).__name__}{advice}")
        else:
            return model
