"""`record`: one run of a rewritten model, with every activation in memory."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import make_activations
from surgery.errors import ModelError, TraceError, did_you_mean
from surgery.graph import Activations, contexts, named_tensors
from surgery.layouts import AxisTracker
from surgery.rewriting import listening
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.layouts import LayoutHints
    from surgery.types import Operation


def record(opened: nn.Module, *inputs: Any, **named: Any) -> Activations:
    """Run a rewritten model, and return its activations in order of execution.

    Each activation holds a detached copy of a value as it was computed, for the whole batch, on the model's device. All
    copies are in memory at once. An operation that runs twice has two activations, and a value of several tensors has
    one for each. Their `pictures` are drawn on first use, by the default recipe, one for each image of the batch.

    Inputs are given by position, or by the names of forward's parameters: ``record(opened, **tokenizer(text))``. The
    model may be compiled by `torch.compile`. Threads that record the same model wait for each other. Raises ModelError
    for missing or unknown inputs, and TraceError if `opened` is not a module.
    """
    if not isinstance(opened, nn.Module):
        raise TraceError(f"record takes a rewritten model, which surgery.insert returns, not {type(opened).__name__}")
    _check_arguments(opened, inputs, named)
    recorded: list[tuple[Operation, str, Tensor, LayoutHints]] = []
    tracker = AxisTracker(opened)

    def on_value(operation: Operation, value: Any) -> None:
        for key, tensor in named_tensors(value):
            recorded.append((operation, key, tensor.detach().clone(), tracker.hints(operation.path, key)))

    with listening(opened, on_value), contexts.closing():
        tracker.run(*inputs, **named)
    recipe = DEFAULT_RECIPE
    return Activations(
        activation
        for operation, key, tensor, hints in recorded
        for activation in make_activations(operation, tensor, None, recipe, key, lambda _, hints=hints: hints)  # type: ignore[misc]
    )


def _check_arguments(opened: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raise ModelError for missing, unknown and surplus inputs."""
    module: Any = getattr(opened, "_orig_mod", opened)  # the module inside a compiled model
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*inputs, **named)
    except TypeError:
        known = list(signature.parameters)
        unknown = next((name for name in named if name not in known), None)
        raise ModelError(
            f"{type(module).__name__} takes {abbreviate_list(known, 12) or 'no inputs'}; it is given {len(inputs)} by "
            f"position and {', '.join(named) or 'none'} by name{did_you_mean(unknown, known) if unknown else ''}"
        ) from None
