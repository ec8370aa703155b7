"""What certification must leave as it was: the parameters and the state of the original."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from surgery.graph import bitwise_equal, describe_difference
from surgery.verification.certificate import Comparison
from surgery.verification.differences import first_difference

if TYPE_CHECKING:
    from torch import nn


def model_state(model: nn.Module) -> list[tuple[str, Any]]:
    """Return everything in a model that a run or a trace could change, as pairs of a description and a value."""
    state: list[tuple[str, Any]] = []
    for path, module in model.named_modules():
        hooks = {
            name: list(value)
            for name, value in vars(module).items()
            if name.endswith("_hooks") and isinstance(value, dict)
        }
        state.append((f"the mode of {path or 'the model'}", module.training))
        state += [(f"the {name.strip('_')} of {path}", keys) for name, keys in hooks.items()]
        state.append((f"the attributes of {path or 'the model'}", sorted(vars(module))))
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        state += [(name, value.detach().clone()), (f"the identity of {name}", id(value))]
        state.append((f"requires_grad of {name}", value.requires_grad))
    return state


def compare_state(model: nn.Module, before: list[tuple[str, Any]]) -> Comparison:
    """Return whether the state of a model is still what `model_state` returned before."""
    difference = first_difference(before, model_state(model))
    return Comparison("the original", "", "", difference is None, len(before), difference or "")


def compare_parameters(model: nn.Module, opened: nn.Module) -> Comparison:
    """Return whether the parameters of a rewritten model have the names, values and `requires_grad` of the original."""
    actual = dict(opened.named_parameters())
    expected = dict(model.named_parameters())
    if list(actual) == list(expected):
        differences = (_parameter_difference(name, actual[name], value) for name, value in expected.items())
        difference = next(filter(None, differences), None)
    else:
        difference = f"{len(actual)} of them, not {len(expected)}"
    same = difference is None if expected or actual else None
    return Comparison("parameters", "", "", same, len(expected), difference or "")


def _parameter_difference(name: str, actual: nn.Parameter, expected: nn.Parameter) -> str | None:
    if actual.requires_grad != expected.requires_grad:
        return f"{name} has requires_grad {actual.requires_grad}, not {expected.requires_grad}"
    return None if bitwise_equal(actual, expected) else f"{name}: {describe_difference(actual, expected)}"
