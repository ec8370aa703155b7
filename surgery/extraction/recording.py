"""`record`: one run of a rewritten model, with every activation in memory."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import fx, nn

from surgery.builtin import DEFAULT_RECIPE
from surgery.drawing import make_activations
from surgery.errors import ModelError, TraceError
from surgery.graph import Activations, contexts, named_tensors
from surgery.layouts import NO_HINTS, AxisTracker
from surgery.rewriting import listening

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.layouts import LayoutHints
    from surgery.types import Operation


def record(opened: nn.Module, *inputs: Any, **named: Any) -> Activations:
    """Run a rewritten model, and return its activations in order of execution.

    Each activation holds a detached copy of a value as it was computed, for the whole batch, on the model's device. All
    copies are in memory at once. An operation that runs twice has two activations, and a value of several tensors has
    one for each. Their `pictures` are drawn on first use, by the default recipe, one for each image of the batch.

    Inputs are given by position, or by the names of forward's parameters. The model may be compiled by `torch.compile`.
    Raises ModelError for missing or unknown inputs, and TraceError if `opened` is not a module.
    """
    if not isinstance(opened, nn.Module):
        raise TraceError(f"record takes a rewritten model, which surgery.insert returns, not {type(opened).__name__}")
    inputs = _by_position(opened, inputs, named) if named else inputs
    recorded: list[tuple[Operation, str, Tensor, LayoutHints]] = []
    tracker = _axis_tracker(opened)

    def on_value(operation: Operation, value: Any) -> None:
        for key, tensor in named_tensors(value):
            hints = NO_HINTS if tracker is None else tracker.hints(operation.name, key)
            recorded.append((operation, key, tensor.detach().clone(), hints))

    with listening(opened, on_value), contexts.closing():
        opened(*inputs) if tracker is None else tracker.run(*inputs)
    recipe = DEFAULT_RECIPE
    return Activations(
        activation
        for operation, key, tensor, hints in recorded
        for activation in make_activations(operation, tensor, None, recipe, key, lambda _, hints=hints: hints)  # type: ignore[misc]
    )


def _by_position(opened: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Return inputs given by position and by name, all by position. Raises ModelError for missing or unknown ones."""
    module = getattr(opened, "_orig_mod", opened)  # the module inside a compiled model
    parameters = list(inspect.signature(module.forward).parameters)
    if isinstance(module, fx.GraphModule):
        parameters = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    remaining = parameters[len(inputs) :]
    if set(remaining) != set(named):
        raise ModelError(
            f"{type(opened).__name__} takes {', '.join(parameters) or 'no inputs'}; it is given {len(inputs)} by "
            f"position and {', '.join(named)} by name"
        )
    return (*inputs, *(named[name] for name in remaining))


def _axis_tracker(opened: nn.Module) -> AxisTracker | None:
    """Return what runs a model node by node; None for a model that is compiled, no graph, or has hooks."""
    if not isinstance(opened, fx.GraphModule) or type(opened.graph._codegen) is not fx.graph.CodeGen:  # noqa: SLF001
        return None
    hooks = (opened._forward_hooks, opened._forward_pre_hooks, opened._backward_hooks, opened._backward_pre_hooks)  # noqa: SLF001
    return None if any(hooks) else AxisTracker(opened)
