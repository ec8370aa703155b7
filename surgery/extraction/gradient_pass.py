"""The gradients of one batch of a run, as activations of their own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from surgery.builtin import Symmetric
from surgery.drawing import make_activations
from surgery.errors import RenderError
from surgery.extraction.class_activation import grad_cam
from surgery.extraction.gradients import GradientRecorder, call_scalar
from surgery.graph import named_tensors, tensor_specs
from surgery.layouts import NO_HINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from surgery.extraction.output_parts import Scalar
    from surgery.layouts import LayoutHints
    from surgery.stages import Recipe
    from surgery.types import Activation, Operation


class _Value(NamedTuple):
    operation: Operation
    key: str
    hints: LayoutHints
    copied: Tensor | None
    """A copy of the values, if Grad-CAM needs them."""


class GradientPass:
    """Takes the values of a batch while the model runs, and gives their gradients at its end.

    Gradients are drawn by the recipe of the run, with limits that have zero in the middle and without transforms. The
    path of an operation's gradient ends in ``.gradient``, that of its Grad-CAM in ``.grad_cam``.
    """

    def __init__(self, of: Scalar, recipe: Recipe, *, with_grad_cam: bool) -> None:
        self._of = of
        self._recipe = replace(recipe, transforms=())
        self._gradient_recipe = replace(recipe, normalizer=Symmetric(), colormap=None, transforms=())
        self._with_grad_cam = with_grad_cam
        self._recorder = GradientRecorder()
        self._values: list[_Value] = []

    def add(
        self,
        operation: Operation,
        value: Any,
        find_hints: Callable[[str], LayoutHints],
        *,
        with_grad_cam: bool = True,
    ) -> None:
        """Take the value of an operation, which was computed just now, or an input."""
        with_grad_cam = with_grad_cam and self._with_grad_cam
        for key, tensor in named_tensors(value):
            self._recorder.add(tensor)
            copied = tensor.detach().clone() if with_grad_cam and tensor.requires_grad else None
            self._values.append(_Value(operation, key, find_hints(key), copied))

    def activations(self, output: Any, images: Sequence[str]) -> Iterator[Iterable[Activation]]:
        """Yield the gradients of each value, and its Grad-CAM if it has maps: an activation for each image.

        Raises what the function of the output raises, and TraceError if there are no gradients.
        """
        for value, gradient in zip(self._values, self._recorder.compute(call_scalar(self._of, output)), strict=True):
            if gradient is None:
                continue
            yield self._draw(value, gradient, images, self._gradient_recipe, "gradient")
            if value.copied is not None:
                with suppress(RenderError):  # a vector has no maps
                    maps = self._grad_cam(value, value.copied, gradient)
                    yield self._draw(value, maps, images, self._recipe, "grad_cam")

    def _grad_cam(self, value: _Value, values: Tensor, gradient: Tensor) -> Tensor:
        first, second = (
            next(make_activations(value.operation, tensor, None, self._recipe, value.key, lambda _: value.hints))
            for tensor in (values, gradient)
        )
        return grad_cam(replace(first, gradient=second)).values

    def _draw(
        self, value: _Value, values: Tensor, images: Sequence[str], recipe: Recipe, suffix: str
    ) -> Iterator[Activation]:
        operation = value.operation
        hints = NO_HINTS if suffix == "grad_cam" else value.hints
        drawn = replace(operation, name=f"{operation.name}_{suffix}", kind=suffix, tensors=tensor_specs(values))
        for activation in make_activations(operation, values, images, recipe, value.key, lambda _: hints):
            yield replace(activation, operation=drawn, path=f"{activation.path}.{suffix}")
