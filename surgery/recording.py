"""Recording: run a rewritten model once, and keep everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.extractor import listening
from surgery.rendering import STANDARD, activations_of
from surgery.types import Activation
from surgery.values import tensors_in

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgery.types import Operation


def record(opened: nn.Module, *inputs: Any) -> tuple[Activation, ...]:
    """Run a rewritten model, and return every activation in order of execution, as it was when it was computed.

    The model may be compiled (`torch.compile`). The values are copies of a whole batch each, detached, on the model's
    device: the memory of all of them at once. An operation that runs twice is there twice; a value that holds several
    tensors gives one activation for each. Their `pictures`, made when asked for, are those of the standard recipe, one
    for each image of the batch.
    """
    recorded: list[tuple[Operation, str, Tensor]] = []

    def keep(operation: Operation, value: Any) -> None:
        for key, tensor in tensors_in(value):
            recorded.append((operation, key, tensor.detach().clone()))

    with listening(opened, keep):
        opened(*inputs)
    recipe = STANDARD
    return tuple(
        activation
        for operation, key, tensor in recorded
        for activation in activations_of(operation, tensor, None, recipe, key)
    )
