"""Whether a new module computes a value of the shape and dtype that the module had which it replaces."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.errors import EditError, first_line
from surgery.graph import copy_isolating_hooks, find_edges, node_tensors, tensor_specs
from surgery.rewriting.places import Places

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.types import Operation, TensorSpec


class _UnknownError(Exception):
    """The arguments of a call are not known."""


def check_same_value(traced: nn.Module, operation: Operation, former: nn.Module, new: nn.Module) -> None:
    """Raise EditError if a new module, run on zeros, fails or returns other shapes or dtypes than the former one.

    Nothing is checked if the arguments are not known, or if the former module can't be run on zeros.
    """
    device = next((tensor.device for tensor in chain(former.parameters(), former.buffers())), torch.device("cpu"))
    try:
        args, kwargs = _zeros_for(traced, operation, device)
        expected = _run(former, args, kwargs)
    except Exception:  # noqa: BLE001 - a user's module may want other values than zeros
        return
    kind = type(new).__name__
    try:
        found = _run(new, args, kwargs)
    except Exception as error:
        reason = f"{kind} can't take {_describe(tensor_specs([*args, *kwargs.values()]))}: {first_line(error)}"
        raise EditError(f"{operation.path} can't be replaced: {reason}") from error
    if found != expected:
        raise EditError(
            f"{operation.path} can't be replaced: it returns {_describe(expected)}, and {kind} {_describe(found)}"
        )


def _run(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """Return the tensors that a module computes in eval mode. Neither its buffers nor random generators change."""
    trial = copy_isolating_hooks(module)
    trial.eval()
    devices = {value.device for value in chain(args, kwargs.values()) if isinstance(value, Tensor) and value.is_cuda}
    with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
        return tensor_specs(trial(*args, **kwargs))


def _zeros_for(traced: nn.Module, operation: Operation, device: torch.device) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the call of a module, with zeros for tensors. Raises _UnknownError."""
    if isinstance(traced, fx.GraphModule):
        node = Places(traced, traced.graph).group(operation.path).nodes[0]
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda source: _zeros(node_tensors(source), device))
        return args, kwargs
    sources = [source for source in find_edges(traced).operands[operation.name] if source.kind != "attribute"]
    return tuple(_zeros(source.tensors, device) for source in sources), {}


def _zeros(tensors: tuple[TensorSpec, ...] | None, device: torch.device) -> Tensor:
    if tensors is None or len(tensors) != 1 or tensors[0].key:
        raise _UnknownError
    return torch.zeros(tensors[0].shape, dtype=getattr(torch, tensors[0].dtype), device=device)


def _describe(tensors: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{tensor.shape} {tensor.dtype}" for tensor in tensors) or "no tensor"
