"""From the user's model to the rewritten model of a run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import ExampleError, bind_example
from surgery.editing import apply_edits
from surgery.errors import ModelError, TraceError, first_line
from surgery.extraction.trial import ADVICE, current_trial
from surgery.graph import copy_sharing_parameters, unshare_parameters
from surgery.inputs import as_example, read_batches
from surgery.interrupts import raising_interrupts
from surgery.rewriting import insert, select_all, stop_after_last_extractor
from surgery.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from surgery.editing import EditRecipe
    from surgery.extraction.run_settings import Mode
    from surgery.inputs import RunInputs
    from surgery.layouts import RequestedLayouts
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection


def copy_for_run(model: nn.Module, mode: Mode, device: str | torch.device) -> nn.Module:
    """Return a copy of the model on `device` and in `mode`. Raises ModelError for a device that doesn't exist."""
    try:
        target = torch.empty(0, device=device).device
    except Exception as error:  # each kind of missing device has an error of its own
        existing = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise ModelError(f"there is no device {str(device)!r}; here there is {' and '.join(existing)}") from error
    copy = copy_sharing_parameters(model)
    unshare_parameters(copy)
    copy.to(target)
    return copy if mode == "as-is" else copy.train(mode == "train")


def trace_for_run(model: nn.Module, tracing: Mapping[str, Any], example: Mapping[str, Any] | None) -> nn.Module:
    """Trace a model. `tracing` are arguments of `surgery.trace`, and `example` are inputs by name."""
    trial = current_trial()
    if trial is None or trial.runs_model:
        with raising_interrupts():
            return _trace(model, example, tracing)
    if tracing.get("front_end") == "observed":
        raise TraceError(f"an observed model has to run once for its operations to be known; {ADVICE}")
    try:
        with raising_interrupts():
            return trace(model, **tracing)
    except TraceError as error:
        raise TraceError(f"the model has no graph without a run of it ({first_line(error)}); {ADVICE}") from error


def edit_for_run(
    traced: nn.Module,
    edits: EditRecipe,
    layout: RequestedLayouts,
    reference: RunInputs | None,
    model: nn.Module,
    *,
    device: str | torch.device,
    seed: int,
    plugins: Plugins | None,
) -> nn.Module:
    """Apply edits to a traced model. `reference` are the inputs of their reference run, which `model` tells to read."""
    if not edits and reference is None:
        return traced
    trial = current_trial()
    if reference is not None and trial is not None and not trial.runs_model:
        raise ModelError(f"an edit with reference images needs a run of the model; {ADVICE}")
    batches = None if reference is None else list(read_batches(model, reference, device))
    return apply_edits(traced, edits, layout=layout, reference=batches, seed=seed, plugins=plugins)


def insert_extractors(traced: nn.Module, at: Selection | str | Sequence[Selection | str], *, output: bool) -> nn.Module:
    """Insert an extractor behind each selected operation. Without `output` the model stops after the last one."""
    selections: Sequence[Selection | str] = at if isinstance(at, (list, tuple)) else [at]  # type: ignore[list-item]
    rewritten = insert(traced, select_all(traced, selections))
    return rewritten if output else stop_after_last_extractor(rewritten)


def _trace(model: nn.Module, example: Mapping[str, Any] | None, tracing: Mapping[str, Any]) -> nn.Module:
    if example is None:
        return trace(model, **tracing)
    try:
        return trace(model, as_example(model, example), **tracing)
    except ExampleError as error:
        # Other images of the run may have a size that the model takes.
        if set(bind_example(model, None).names) == set(example):
            with suppress(TraceError):
                return trace(model, **tracing)
        given = ", ".join(f"{name}{_describe_shape(value)}" for name, value in example.items())
        raise ExampleError(f"{error}; the model was given {given}") from error


def _describe_shape(value: Any) -> str:
    return f" {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
