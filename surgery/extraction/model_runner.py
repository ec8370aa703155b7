"""Batches through a rewritten model, and every value as activations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from surgery.drawing import make_activations, make_image_activations
from surgery.eager import ExternalState
from surgery.errors import SurgeryError, first_line
from surgery.extraction.gradient_pass import GradientPass
from surgery.extraction.gradients import clone_for_gradients, following_gradients, forget_history
from surgery.extraction.measuring import Measuring
from surgery.extraction.output_check import compare_with_original
from surgery.graph import (
    call_arguments,
    clone_inputs,
    contexts,
    copy_isolating_hooks,
    input_names,
    named_tensors,
    operations,
    tensor_specs,
)
from surgery.inputs import input_dtype
from surgery.layouts import NO_HINTS, AxisTracker
from surgery.rewriting import find_extractors, listening
from surgery.types import Activation, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from surgery.extraction.run_plan import RunPlan
    from surgery.inputs import Batch
    from surgery.stages import Limits

ActivationConsumer: TypeAlias = "Callable[[Iterable[Activation]], None]"
"""Takes the activations of one value, one for each image, while the values are live."""


class ModelRunner:
    """Runs batches through the rewritten model of a run, and gives the activations of each value to `consume`.

    Random generators are seeded before each batch, and buffers and what Python keeps (attributes of an observed model,
    global names) are restored, so that its values depend on the batch alone.
    """

    def __init__(self, plan: RunPlan, consume: ActivationConsumer) -> None:
        self._plan = plan
        self.consume = consume
        self._consumer_error: Exception | None = None
        self._tracker = AxisTracker(plan.rewritten)
        self._dtype = input_dtype(plan.rewritten)
        self._input_names = input_names(plan.rewritten)
        self._output_index = max((each.index for each in operations(plan.rewritten)), default=0) + 1
        self._python_state = ExternalState(plan.rewritten)
        self._initial_buffers = [(buffer, buffer.clone()) for buffer in plan.rewritten.buffers()]
        self._selected = tuple(dict.fromkeys(each.operation.path for each in find_extractors(plan.rewritten)))
        self._reached: set[str] = set()
        self._measuring = Measuring(plan.measures, plan.rewritten)
        self._gradients: GradientPass | None = None
        """That of the current batch, in a run with gradients."""
        self.has_checked_output = False
        """Whether the first output was compared with the original model's."""

    def run(self, batch: Batch) -> str | None:
        """Run one batch. Return why the model can't take it, or None if it ran.

        Raises TraceError if the first output is not the original model's, and what `consume` raises.
        """
        plan = self._plan
        self._reached.clear()
        images = [item.name for item in batch.inputs]
        values: dict[str, Any] = batch.to(plan.device, self._dtype) | clone_inputs(plan.fixed_inputs)
        if plan.input_names is not None and plan.input_names != set(values):
            return (
                f"it gives {', '.join(sorted(values))}, and the first file gave {', '.join(sorted(plan.input_names))}"
            )
        needs_check = plan.reference is not None and not self.has_checked_output
        unchanged = clone_inputs(values) if needs_check else values  # a model may write to its input
        for buffer, initial in self._initial_buffers:
            buffer.copy_(initial)
        devices = [plan.device] if plan.device.type == "cuda" else []
        gradients = plan.gradients is not None
        mode = following_gradients() if gradients else torch.no_grad()
        with torch.random.fork_rng(devices=devices), mode, contexts.closing():
            torch.manual_seed(plan.seed)
            self._consume_inputs(values, images)
            values = self._follow_gradients(values)
            args, kwargs = call_arguments(plan.rewritten, {name: values[name] for name in self._input_names})
            try:
                with self._python_state.restart(), listening(plan.rewritten, partial(self._on_value, images)):
                    output = self._tracker.run(*args, **kwargs)
            except Exception as error:
                if self._consumer_error is not None:
                    raise self._consumer_error from None  # the model's code may have raised another error after it
                if isinstance(error, SurgeryError):
                    raise
                return f"the model does not take it as {_describe_shapes(values)}: {first_line(error)}"
            if self._consumer_error is not None:  # which the model's code has caught
                raise self._consumer_error
            self._consume_gradients(output, images)
            if plan.records_output:
                self._consume_output(batch.main, output, images)
        if needs_check and plan.reference is not None:
            if plan.unedited is not None:
                output = self._run_unedited(plan.unedited, unchanged, gradients=gradients)
            compare_with_original(plan.reference, unchanged, output, plan.device, plan.seed, gradients=gradients)
            self.has_checked_output = True
        return None

    def _run_unedited(self, model: nn.Module, values: Mapping[str, Any], *, gradients: bool) -> Any:
        """Return the output of the traced model without edits, for the same inputs and random numbers."""
        values = clone_for_gradients(clone_inputs(values)) if gradients else clone_inputs(values)
        args, kwargs = call_arguments(model, {name: values[name] for name in self._input_names})
        devices = [self._plan.device] if self._plan.device.type == "cuda" else []
        mode = following_gradients() if gradients else torch.no_grad()
        with torch.random.fork_rng(devices=devices), mode, contexts.closing(), self._python_state.restart():
            torch.manual_seed(self._plan.seed)
            return copy_isolating_hooks(model)(*args, **kwargs)

    @property
    def checks_without_edits(self) -> bool:
        """Whether it is the output without edits that is compared with the original model's."""
        return self._plan.unedited is not None

    @property
    def not_reached(self) -> tuple[str, ...]:
        """The paths of the selected operations that the last batch did not reach, in order of execution."""
        return tuple(path for path in self._selected if path not in self._reached)

    def _on_value(self, images: Sequence[str], operation: Operation, value: Any) -> None:
        """Consume the value of an operation, inside the model's forward pass."""
        if self._consumer_error is not None:
            return
        self._reached.add(operation.path)
        try:
            tensors = tensor_specs(value)
            if tensors != operation.tensors:  # of another size or number of images than the example
                operation = replace(operation, tensors=tensors)
            find_hints = partial(self._tracker.hints, operation.path)
            if self._gradients is not None:
                self._gradients.add(operation, value, find_hints)
            activations = make_activations(operation, value, images, self._plan.recipe, find_hints=find_hints)
            self.consume(self._measuring.add(activations))
        except Exception as error:
            self._consumer_error = error
            raise

    def _follow_gradients(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs for the model: in a run with gradients, clones that autograd follows."""
        plan = self._plan
        if plan.gradients is None:
            return values
        followed: dict[str, Any] = clone_for_gradients(values)
        self._gradients = GradientPass(plan.gradients, plan.recipe, with_grad_cam=plan.grad_cam)
        for path, value in _input_paths(followed):
            self._gradients.add(_input_operation(path, value), value, lambda _: NO_HINTS, with_grad_cam=False)
        return followed

    def _consume_gradients(self, output: Any, images: Sequence[str]) -> None:
        """Consume the gradients of the inputs and of all values, in a run with gradients."""
        if self._gradients is None:
            return
        try:
            for activations in self._gradients.activations(output, images):
                self.consume(activations)
        finally:
            self._gradients = None
            forget_history(self._plan.rewritten)

    def _consume_inputs(self, values: Mapping[str, Any], images: Sequence[str]) -> None:
        """Consume the inputs of the model; those that are images are drawn in their own colors."""
        for path, value in _input_paths(values):
            limits = self._plan.input_limits if path == "input" else None
            if isinstance(value, list) and len(value) == len(images):
                for image, each in zip(images, value, strict=True):
                    self._consume_input(path, each[None], [image], limits)
            elif isinstance(value, Tensor):
                self._consume_input(path, value, images, limits)

    def _consume_input(self, path: str, values: Tensor, images: Sequence[str], limits: Limits | None) -> None:
        """Consume one input. Without `limits` it is drawn as an image if it looks like one."""
        plan = self._plan
        operation = _input_operation(path, values)
        if limits is None and is_image(values, values, plan.value_range):
            limits = plan.value_range
        if limits is None:
            activations = make_activations(operation, values, images, plan.recipe)
        else:
            activations = make_image_activations(operation, values, images, limits, plan.recipe)
        self.consume(self._measuring.add(activations))

    def _consume_output(self, values: object, output: Any, images: Sequence[str]) -> None:
        """Consume the output of the model, drawn in its own colors if it is an image like the input."""
        plan = self._plan
        operation = Operation("output", "output", "output", self._output_index, tensors=tensor_specs(output))
        if is_image(values, output, plan.value_range):
            activations = make_image_activations(operation, output, images, plan.value_range, plan.recipe)
        else:
            find_hints = partial(self._tracker.hints, None)
            activations = make_activations(operation, output, images, plan.recipe, find_hints=find_hints)
        self.consume(self._measuring.add(activations))


def _input_paths(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the inputs of a model with their paths: that of the first is ``input``, that of another ``input.mask``."""
    for number, (name, value) in enumerate(values.items()):
        yield f"input.{name}" if number else "input", value


def _input_operation(path: str, values: Any) -> Operation:
    return Operation(path.replace(".", "_"), path, "input", 0, tensors=tensor_specs(values))


def is_image(values: object, output: Any, value_range: tuple[float, float]) -> bool:
    """Return whether an output is an image like the input `values` ``(B, C, H, W)``.

    That is one float tensor of 3 channels or 1, of the same height and width, with all values within `value_range`.
    """
    if not isinstance(values, Tensor) or not isinstance(output, Tensor):
        return False
    if not output.is_floating_point() or output.ndim != 4 or output.shape[1] not in (1, 3):
        return False
    low, high = value_range
    return output.shape[2:] == values.shape[2:] and bool(output.min() >= low) and bool(output.max() <= high)


def _describe_shapes(values: Mapping[str, Any]) -> str:
    """Return the shapes of inputs: ``(1, 3, 8, 8), mask as (1, 1, 8, 8)``."""
    texts: list[str] = []
    for name, value in values.items():
        shapes = " and ".join(str(tuple(tensor.shape)) for _, tensor in named_tensors(value)) or repr(value)
        texts.append(f"{name} as {shapes}" if texts else shapes)
    return ", ".join(texts)
