"""The difference that an operation adds itself: what it gives in the second run for the inputs of the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from surgery.comparison.steppers import GraphStepper
from surgery.graph import bitwise_equal, named_tensors
from surgery.rewriting import original_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.comparison.runs import PreparedRun

NOTHING = object()
"""Stands for an operation that adds no difference, since it does the same in both runs."""


class OwnDifferences:
    """Evaluates operations of a second run on the inputs of the first, where that could give something else.

    It would not if the inputs are the same in both runs, or if the operation does the same with all that it is given:
    the same function with the same constants, or the same module with the same weights.
    """

    def __init__(self, first: PreparedRun, second: PreparedRun) -> None:
        self._first, self._second = first, second
        self._same_modules: dict[tuple[str, str], bool] = {}

    def evaluate(self, first: GraphStepper, path: str, second: GraphStepper, other: str) -> tuple[Any, bool]:
        """Return what the operation `other` of the second run gives for the inputs of `path` in the first.

        Both are the next to be computed. The result is `NOTHING` if that is what the first run computes, and None if it
        is what the second one computes, or if the operation can't take the inputs. Also returns whether the inputs are
        the same in both runs.
        """
        is_edited, other = other != original_path(other), original_path(other)
        one, two = first.prepare(path), second.prepare(other)
        if len(one.nodes) != 1 or len(two.nodes) != 1:
            return None, False
        args, kwargs = first.arguments(path)
        own_args, own_kwargs = second.arguments(other)
        if _equal_inputs((args, kwargs), (own_args, own_kwargs)):
            return None, True
        if is_edited:
            return None, False  # the edit would have to be evaluated too
        if self._does_the_same(one.node, two.node, (args, kwargs), (own_args, own_kwargs)):
            return NOTHING, False
        converted = _convert((args, kwargs), self._second)
        converted = _with_own_parameters(two.node, converted, (own_args, own_kwargs))
        try:
            return second.evaluate(other, *converted), False
        except Exception:  # noqa: BLE001 - the operations may take different inputs
            return None, False

    def _does_the_same(self, one: fx.Node, two: fx.Node, ones: Any, twos: Any) -> bool:
        if one.op != two.op or self._first.dtype != self._second.dtype or self._first.device != self._second.device:
            return False
        if _draws(one):
            return False
        if one.op == "call_module":
            key = str(one.target), str(two.target)
            if key not in self._same_modules:
                modules = self._first.model.get_submodule(key[0]), self._second.model.get_submodule(key[1])
                self._same_modules[key] = _same_module(*modules)
            return self._same_modules[key]
        parameters = [node for node in (*one.all_input_nodes, *two.all_input_nodes) if node.op == "get_attr"]
        return one.target == two.target and not parameters and _constants(ones) == _constants(twos)


def _draws(node: fx.Node) -> bool:
    """Return whether an operation may draw random numbers."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return any(word in name.lower() for word in ("drop", "rand", "normal", "bernoulli", "multinomial", "uniform"))


def _same_module(one: nn.Module, two: nn.Module) -> bool:
    """Return whether two modules do the same with the same inputs, as far as their state tells."""
    is_random = isinstance(one, nn.modules.dropout._DropoutNd) and one.training  # noqa: SLF001
    if type(one) is not type(two) or one.training != two.training or repr(one) != repr(two) or is_random:
        return False
    states = one.state_dict(), two.state_dict()
    if states[0].keys() != states[1].keys():
        return False
    return all(
        bitwise_equal(value, other) if isinstance(value, Tensor) else value == other
        for value, other in zip(states[0].values(), states[1].values(), strict=True)
    )


def _equal_inputs(ones: Any, twos: Any) -> bool:
    first, second = list(named_tensors(ones)), list(named_tensors(twos))
    return len(first) == len(second) and all(
        one.shape == two.shape and one.dtype == two.dtype and bitwise_equal(one, two)
        for (_, one), (_, two) in zip(first, second, strict=True)
    )


def _constants(value: Any) -> Any:
    """Return the arguments of a call without tensors, as text."""
    return repr(torch.utils._pytree.tree_map_only(Tensor, lambda _: None, value))  # noqa: SLF001


def _convert(value: Any, run: PreparedRun) -> Any:
    """Return arguments on the device and in the dtype of a run."""

    def convert(tensor: Tensor) -> Tensor:
        moved = tensor.to(run.device)
        floats = run.dtype if run.dtype is not None and run.dtype.is_floating_point else None
        return moved.to(floats) if moved.is_floating_point() and floats is not None else moved

    return torch.utils._pytree.tree_map_only(Tensor, convert, value)  # noqa: SLF001


def _with_own_parameters(node: fx.Node, given: Any, own: Any) -> Any:
    """Return arguments with the parameters and buffers of the second run in the place of those of the first."""

    def choose(argument: Any, value: Any, other: Any) -> Any:
        if isinstance(argument, fx.Node):
            return other if argument.op == "get_attr" else value
        if isinstance(argument, (tuple, list)) and isinstance(value, (tuple, list)) and len(value) == len(argument):
            return type(value)(choose(*each) for each in zip(argument, value, other, strict=True))
        return other

    args = tuple(choose(*each) for each in zip(node.args, given[0], own[0], strict=False))
    kwargs: Mapping[str, Any] = {
        name: choose(argument, given[1].get(name), own[1].get(name)) for name, argument in node.kwargs.items()
    }
    return args, dict(kwargs)
