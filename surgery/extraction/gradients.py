"""Gradients of one number with respect to the values of a run, each as it was when it was computed.

Autograd knows a value by the node that computed it, and an operation in place gives the tensor another node. So the
node is kept when the value is computed. A view has no node of its own once the memory that it shares is written to:
what flows through memory from then on arrives at the node of the whole memory (the view's base), and is added.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks

from surgery.eager import clone_leaves
from surgery.errors import SurgeryError, TraceError, first_line
from surgery.graph import clone_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_REPLAYED_VIEW = "AsStridedBackward0"
"""The node of a view whose memory has been written to since the view was made."""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where the gradient of one value arrives."""

    value: Tensor
    """The tensor that had the value. Its contents may have changed."""
    edge: GradientEdge
    base_edge: GradientEdge | None
    """Of the whole memory, if the value is a view."""
    is_written: bool
    """Whether the view had been written to: then whoever reads the memory reads the value."""


class GradientRecorder:
    """Keeps where the gradients of values arrive while a model runs, and computes them at its end."""

    def __init__(self) -> None:
        self._places: list[_Place | None] = []

    def add(self, value: Tensor) -> None:
        """Keep the place of a value, which was computed just now."""
        self._places.append(_find_place(value) if value.requires_grad else None)

    def compute(self, scalar: Any) -> list[Tensor | None]:
        """Return the gradient of `scalar`, a tensor of one number, for each value in the order of `add`.

        It has the shape, dtype and device of the value. Zeros if the number does not depend on the value; None if
        autograd does not follow the value: integers, and what depends on neither inputs nor trainable parameters.

        Raises TraceError for something that is not one number, or that autograd did not follow.
        """
        _check_scalar(scalar)
        places = [place for place in self._places if place is not None]
        edges = [place.edge for place in places]
        edges += [place.base_edge for place in places if place.base_edge is not None]
        writes = {index: _first_write_after(place) for index, place in enumerate(places)}
        with _watching({node for node in writes.values() if node is not None}) as passed:
            try:
                found = torch.autograd.grad(scalar, edges, allow_unused=True) if edges else ()
            except RuntimeError as error:
                raise TraceError(f"the gradients can't be computed: {first_line(error)}") from error
        arrived: dict[GradientEdge, Tensor | None] = dict(zip(edges, found, strict=True))
        gradients = iter(_gradient(place, arrived, passed.get(writes[index])) for index, place in enumerate(places))
        return [None if place is None else next(gradients) for place in self._places]


@contextmanager
def following_gradients() -> Iterator[None]:
    """Within the block, which is for a run with gradients and for their computation, autograd follows what is computed.

    It saves copies of values, since models that were never meant to be trained may write to the values themselves.
    """
    with torch.inference_mode(mode=False), torch.enable_grad(), saved_tensors_hooks(_copy_to_save, _as_saved):
        yield


def _copy_to_save(value: Tensor) -> Tensor:
    return value if isinstance(value, nn.Parameter) else value.clone()


def _as_saved(value: Tensor) -> Tensor:
    return value


def clone_for_gradients(inputs: Any) -> Any:
    """Return clones of inputs that autograd follows. They are no leaves, so that a model may write to them."""
    return clone_inputs(clone_leaves(inputs, gradients=True))


def forget_history(model: nn.Module) -> None:
    """Let autograd forget how the buffers of a model were computed, which would keep the whole run in memory."""
    for buffer in model.buffers():
        if buffer.grad_fn is not None and not buffer._is_view():  # noqa: SLF001
            buffer.detach_()


def call_scalar(of: Any, output: Any) -> Any:
    """Return what a function computes from the output of a model. Raises TraceError if it fails."""
    try:
        return of(output)
    except SurgeryError:
        raise
    except Exception as error:
        raise TraceError(f"the function of the output failed: {type(error).__name__}: {first_line(error)}") from error


def _check_scalar(scalar: Any) -> None:
    if not isinstance(scalar, torch.Tensor) or scalar.numel() != 1:
        given = f"a tensor {tuple(scalar.shape)}" if isinstance(scalar, torch.Tensor) else type(scalar).__name__
        raise TraceError(f"gradients are taken of one number, a tensor of one value, not of {given}")
    if not scalar.requires_grad:
        raise TraceError(
            "the number does not depend on anything that has gradients: the model's inputs are integers and its "
            "parameters are frozen, or it computes its output without gradients; model.requires_grad_() unfreezes it"
        )


def _find_place(value: Tensor) -> _Place:
    base = value._base if value._is_view() else None  # noqa: SLF001
    if base is None or not base.requires_grad:
        return _Place(value, get_gradient_edge(value), None, is_written=False)
    edge = get_gradient_edge(value)
    return _Place(value, edge, get_gradient_edge(base), is_written=edge.node.name() == _REPLAYED_VIEW)


def _first_write_after(place: _Place) -> Any:
    """Return the node of the first write to the memory of a view after its value was computed; None without one."""
    if place.base_edge is None or place.is_written:
        return None
    first, base = place.base_edge.node, place.value._base  # noqa: SLF001
    node = base.grad_fn if base is not None else None
    while node is not None and node is not first:
        below = [next_node for next_node, _ in node.next_functions]
        if any(each is first for each in below):
            return node
        node = below[0] if below else None
    return None


@contextmanager
def _watching(nodes: set[Any]) -> Iterator[dict[Any, Tensor]]:
    """Within the block, collect what each of some nodes passes on to the memory that it wrote to."""
    passed: dict[Any, Tensor] = {}

    def watch(node: Any) -> Any:
        def keep(inputs: tuple[Tensor | None, ...], _outputs: Any) -> None:
            if inputs and inputs[0] is not None:
                passed[node] = inputs[0]

        return node.register_hook(keep)

    handles = [watch(node) for node in nodes]
    try:
        yield passed
    finally:
        for handle in handles:
            handle.remove()


def _gradient(place: _Place, arrived: dict[GradientEdge, Tensor | None], passed: Tensor | None) -> Tensor:
    value = place.value
    direct = arrived[place.base_edge] if place.is_written and place.base_edge is not None else arrived[place.edge]
    if place.is_written and direct is not None:
        direct = _as_view(value, direct)
    if passed is not None:
        through_memory = _as_view(value, passed)
        direct = through_memory if direct is None else direct + through_memory
    if direct is None:
        return torch.zeros_like(value, requires_grad=False)
    return direct.detach().clone()


def _as_view(value: Tensor, gradient: Tensor) -> Tensor:
    """Return the part of a gradient of the whole memory that belongs to a view of it."""
    base: Any = value._base  # noqa: SLF001
    like_base = torch.empty_strided(base.shape, base.stride(), dtype=gradient.dtype, device=gradient.device)
    with torch.no_grad():
        part: Tensor = value._view_func_unsafe(like_base.copy_(gradient))  # noqa: SLF001
    return part
