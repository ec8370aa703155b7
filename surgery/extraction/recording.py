"""`record`: one run of a rewritten model, with every activation in memory."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from surgery.builtin import DEFAULT_RECIPE, Symmetric
from surgery.drawing import make_activations
from surgery.errors import ModelError, TraceError, did_you_mean
from surgery.extraction.gradients import (
    GradientRecorder,
    call_scalar,
    clone_for_gradients,
    following_gradients,
    forget_history,
)
from surgery.extraction.output_parts import parse_scalar
from surgery.graph import Activations, contexts, named_tensors
from surgery.layouts import AxisTracker
from surgery.rewriting import listening
from surgery.text import abbreviate_list
from surgery.types import Activation, Operation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.extraction.output_parts import Scalar
    from surgery.layouts import LayoutHints
    from surgery.stages import Recipe


_GRADIENT_RECIPE = replace(DEFAULT_RECIPE, normalizer=Symmetric())


class _Recorded(NamedTuple):
    """A tensor in the value of an operation."""

    operation: Operation
    key: str
    values: Tensor
    hints: LayoutHints


def record(opened: nn.Module, *inputs: Any, gradients: Scalar | str | None = None, **named: Any) -> Activations:
    """Run a rewritten model, and return its activations in order of execution.

    Each activation holds a detached copy of a value as it was computed, for the whole batch, on the model's device. All
    copies are in memory at once. An operation that runs twice has two activations, and a value of several tensors has
    one for each. Their `pictures` are drawn on first use, by the default recipe, one for each image of the batch.

    With `gradients`, each activation also has its `gradient`: that of one number with respect to the value as it was
    computed, whatever is written to its memory later. The number is a part of the output (`surgery.Output`, or its
    text: ``channel=3,region=0,0,0.5,0.5``), or what a function computes from the output, such as a loss (as a text:
    ``loss.py:loss``). A gradient is zero where the number does not depend on the value, and None where autograd does
    not follow it: for integers, and for what depends on neither inputs nor trainable parameters. The model runs on
    copies of its inputs, and the `grad` of parameters stays as it is.

    Inputs are given by position, or by the names of forward's parameters: ``record(opened, **tokenizer(text))``. The
    model may be compiled by `torch.compile`. Threads that record the same model wait for each other. Raises ModelError
    for missing or unknown inputs, and TraceError if `opened` is not a module, or if it has no gradients.
    """
    if not isinstance(opened, nn.Module):
        raise TraceError(f"record takes a rewritten model, which surgery.insert returns, not {type(opened).__name__}")
    _check_arguments(opened, inputs, named)
    if gradients is not None:
        return _record_with_gradients(opened, parse_scalar(gradients), inputs, named)
    recorded, _ = _run(opened, inputs, named)
    return Activations(activation for each in recorded for activation in _activations(each, DEFAULT_RECIPE))


def _record_with_gradients(
    opened: nn.Module, of: Scalar, inputs: tuple[Any, ...], named: dict[str, Any]
) -> Activations:
    if hasattr(opened, "_orig_mod"):
        raise TraceError("a compiled model keeps no gradients of its activations; record the model that was compiled")
    recorder = GradientRecorder()
    with following_gradients():
        inputs, named = clone_for_gradients((inputs, named))
        try:
            recorded, output = _run(opened, inputs, named, recorder)
            found = recorder.compute(call_scalar(of, output))
        finally:
            forget_history(opened)
    return Activations(
        replace(activation, gradient=_gradient_activation(each, gradient))
        for each, gradient in zip(recorded, found, strict=True)
        for activation in _activations(each, DEFAULT_RECIPE)
    )


def _run(
    opened: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], gradients: GradientRecorder | None = None
) -> tuple[list[_Recorded], Any]:
    """Run a model, and return copies of its values and its output. With `gradients`, add each value to it."""
    recorded: list[_Recorded] = []
    tracker = AxisTracker(opened)

    def on_value(operation: Operation, value: Any) -> None:
        for key, tensor in named_tensors(value):
            if gradients is not None:
                gradients.add(tensor)
            copied = tensor.detach().clone()
            recorded.append(_Recorded(operation, key, copied, tracker.hints(operation.path, key)))

    with listening(opened, on_value), contexts.closing():
        return recorded, tracker.run(*inputs, **named)


def _activations(recorded: _Recorded, recipe: Recipe) -> Iterator[Activation]:
    operation, key, values, hints = recorded
    return make_activations(operation, values, None, recipe, key, lambda _: hints)


def _gradient_activation(recorded: _Recorded, gradient: Tensor | None) -> Activation | None:
    if gradient is None:
        return None
    (activation,) = _activations(recorded._replace(values=gradient), _GRADIENT_RECIPE)
    return replace(activation, path=f"{activation.path}.gradient")


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
