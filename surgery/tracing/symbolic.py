"""From a model to a traced model, by symbolic tracing: its forward runs once with proxies instead of tensors."""

from __future__ import annotations

from contextvars import copy_context
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from surgery.eager import ExternalState, lock_global_state, remember_namespaces
from surgery.errors import TraceError
from surgery.graph import HAZARD_KINDS, build_traced_module, copy_sharing_parameters, set_mode
from surgery.tracing.example_check import compare_on_example
from surgery.tracing.example_inputs import bind_example, check_initialized
from surgery.tracing.mode_graphs import ModeGraphs, module_modes
from surgery.tracing.thread_state import restore_thread_state
from surgery.tracing.trace_attempts import TraceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from surgery.tracing.trace_attempts import Leaves


def trace(
    model: nn.Module,
    example: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    leaves: Leaves = (),
    allow: Sequence[str] = (),
) -> fx.GraphModule:
    """Return `model` as a graph module that computes what the model computes, in train and in eval mode.

    The graph module has the model's `state_dict` keys and shares its parameters until it is moved or converted. Its
    buffers and modules are copies, so that running it, changing its mode or moving it does not touch the model. Hooks
    of the model run as part of the graph.

    `example` is a tensor, the sequence of the model's positional inputs, or a dict of its inputs by the names of
    `forward`'s parameters. The model and its graph both run on copies of it in each mode, and leave buffers and random
    generators as they were. TraceError is raised if they differ. The operations of the returned graph know their
    shapes. Flags, numbers and None in the example become constants of the graph if it can't be
    traced otherwise. Without an example, the inputs are the parameters of `forward` that have no default, and nothing
    is compared.

    `leaves` are modules to be kept whole: classes, names of classes, or paths with the wildcards of a shell.

    The graph records blocks such as ``no_grad`` and ``autocast``, tensors and random numbers that forward makes,
    buffers that it writes, and in-place operators. Anything that it can't record and that may change a result is an
    error that names the line, unless `allow` names its kind (see `surgery.graph.hazard_kinds`).

    Models may be traced in several threads; each waits for the one before. Other threads may run models meanwhile.

    Raises TraceError, naming the line that can't be traced and what to do about it.
    """
    with lock_global_state(), remember_namespaces(), restore_thread_state(), torch.inference_mode(False):
        # In a copy of the context, so that context variables that forward sets are as before afterwards.
        return copy_context().run(_trace, unwrap_model(model), example, leaves, allow)


def _trace(model: nn.Module, example: Any, leaves: Leaves, allow: Sequence[str]) -> fx.GraphModule:
    for kind in set(allow) - set(HAZARD_KINDS):
        raise TraceError(f"no kind of hazard is called {kind!r}; there are {', '.join(HAZARD_KINDS)}")
    inputs = bind_example(model, example)
    check_initialized(model)
    request = TraceRequest(model, inputs, leaves, allow, ExternalState(model))
    traces = ModeGraphs(request)
    traces.trace_modes()
    traced = build_traced_module(traces.owner, traces.graphs)
    for part in ("_parameters", "_buffers", "_modules"):  # hooks that have closed over the model find them there
        setattr(traces.owner, part, getattr(traced, part))
    traced.hazards = traces.hazards
    traced.modes = {mode: _modules_in_other_mode(model, mode) for mode in (True, False)}
    if inputs.example is not None:
        traced.hazards += compare_on_example(request, traced, traces.attribute_tensors)
    return traced


def _modules_in_other_mode(model: nn.Module, mode: bool) -> dict[str, bool]:
    """Return the modules that stay in the other mode when the model is put into one: frozen batch norms, say."""
    modes = module_modes(set_mode(copy_sharing_parameters(model), mode))
    return {path: training for path, training in modes.items() if training is not mode}


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
