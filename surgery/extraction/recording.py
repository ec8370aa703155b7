"""Recording: run a rewritten model once, and keep everything."""

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
    """Run a rewritten model, and return every activation in order of execution, as it was when it was computed.

    The model may be compiled (`torch.compile`). The values are copies of a whole batch each, detached, on the model's
    device: the memory of all of them at once. An operation that runs twice is there twice; a value that holds several
    tensors gives one activation for each. Their `pictures`, made when asked for, are those of the standard recipe, one
    for each image of the batch. Inputs are given by position or by the name of forward's parameter; ModelError says
    which are missing.
    """
    if not isinstance(opened, nn.Module):
        raise TraceError(f"a rewritten model is recorded, as surgery.insert gives it, not {type(opened).__name__}")
    inputs = _in_order(opened, inputs, named) if named else inputs
    recorded: list[tuple[Operation, str, Tensor, LayoutHints]] = []
    tracker = _axis_tracker(opened)

    def keep(operation: Operation, value: Any) -> None:
        for key, tensor in named_tensors(value):
            known = NO_HINTS if tracker is None else tracker.hints(operation.name, key)
            recorded.append((operation, key, tensor.detach().clone(), known))

    with listening(opened, keep), contexts.closing():
        opened(*inputs) if tracker is None else tracker.run(*inputs)
    recipe = DEFAULT_RECIPE
    return Activations(
        activation
        for operation, key, tensor, known in recorded
        for activation in make_activations(operation, tensor, None, recipe, key, lambda _, known=known: known)  # type: ignore[misc]
    )


def _in_order(opened: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
    """Inputs by position and by name, in the order of the graph."""
    inside = getattr(opened, "_orig_mod", opened)  # of a compiled model
    known = list(inspect.signature(inside.forward).parameters)
    if isinstance(inside, fx.GraphModule):
        known = [str(node.target) for node in inside.graph.nodes if node.op == "placeholder"]
    rest = known[len(inputs) :]
    if set(rest) != set(named):
        raise ModelError(
            f"{type(opened).__name__} takes {', '.join(known) or 'no inputs'}; it is given {len(inputs)} by position "
            f"and {', '.join(named)} by name"
        )
    return (*inputs, *(named[name] for name in rest))


def _axis_tracker(opened: nn.Module) -> AxisTracker | None:
    """What runs a model node by node, if that can be: it is a graph, not compiled, and nobody has hooked it."""
    if not isinstance(opened, fx.GraphModule) or type(opened.graph._codegen) is not fx.graph.CodeGen:  # noqa: SLF001
        return None
    hooks = (opened._forward_hooks, opened._forward_pre_hooks, opened._backward_hooks, opened._backward_pre_hooks)  # noqa: SLF001
    return None if any(hooks) else AxisTracker(opened)
