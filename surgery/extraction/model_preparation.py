"""From the user's model to the rewritten model of a run."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import ExampleError, bind_example
from surgery.errors import ModelError, TraceError
from surgery.graph import copy_sharing_parameters, input_names, unshare_parameters
from surgery.inputs import main_input_name
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
    other_inputs: Sequence[str],
    example: Any,
    *,
    output: bool,
) -> nn.Module:
    """Trace a model and insert an extractor behind each selected operation. See `extract` for the arguments.

    `tracing` are arguments of `surgery.trace`. `other_inputs` are the names of the inputs beside the image. Without
    `output` the model stops after the last selected operation. Raises ModelError if the model takes other inputs than
    the run has.
    """
    given = (main_input_name(model, other_inputs), *other_inputs)
    required = bind_example(model, None).names
    if missing := [name for name in required if name not in given]:
        advice = f"give {missing[0]} too: --input {missing[0]}=FILES (inputs= in Python)"
        raise ModelError(f"{_describe_inputs(model, required)}; {advice}")
    traced = _trace(model, example, tracing)
    inputs = input_names(traced)
    if len(inputs) != len(given):
        raise ModelError(f"{_describe_inputs(model, inputs)}; {_suggest_inputs(inputs, other_inputs)}")
    selections: Sequence[Selection | str] = at if isinstance(at, (list, tuple)) else [at]  # type: ignore[list-item]
    rewritten = insert(traced, select_all(traced, selections))
    return rewritten if output else stop_after_last_extractor(rewritten)


def _trace(model: nn.Module, example: Any, tracing: Mapping[str, Any]) -> nn.Module:
    try:
        return trace(model, example, **tracing)
    except ExampleError:
        # Other images of the run may have a size that the model takes.
        with suppress(TraceError):
            return trace(model, **tracing)
        raise


def _describe_inputs(model: nn.Module, inputs: Sequence[str]) -> str:
    return f"{type(model).__name__} takes {len(inputs)} inputs ({', '.join(inputs) or 'none'})"


def _suggest_inputs(inputs: Sequence[str], other_inputs: Sequence[str]) -> str:
    """Return what to do if the files of a run don't fit the inputs of a model."""
    if surplus := [name for name in other_inputs if name not in inputs]:
        return f"{surplus[0]} is none of them: leave out --input {surplus[0]}=FILES (inputs= in Python)"
    if inputs:
        return "one of them takes the images: leave out --input NAME=FILES for that one (inputs= in Python)"
    return "a run needs one for the images"
