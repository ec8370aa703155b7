"""From the user's model to the rewritten model of a run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import ExampleError, bind_example
from surgery.errors import ModelError, TraceError
from surgery.graph import copy_sharing_parameters, unshare_parameters
from surgery.inputs import as_example
from surgery.interrupts import raising_interrupts
from surgery.rewriting import insert, select_all, stop_after_last_extractor
from surgery.tracing import trace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from surgery.extraction.run_settings import Mode
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


def insert_extractors(
    model: nn.Module,
    at: Selection | str | Sequence[Selection | str],
    tracing: Mapping[str, Any],
    example: Mapping[str, Any] | None,
    *,
    output: bool,
) -> nn.Module:
    """Trace a model and insert an extractor behind each selected operation. See `extract` for the arguments.

    `tracing` are arguments of `surgery.trace`, and `example` are inputs by name. Without `output` the model stops after
    the last selected operation.
    """
    with raising_interrupts():
        traced = _trace(model, example, tracing)
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
