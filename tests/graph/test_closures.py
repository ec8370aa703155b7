"""Hooks and functions in a copied model: they refer to the copy, and leave the original alone."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from surgery.graph.copies import copy_isolating_hooks, copy_sharing_parameters


class Scaled(nn.Module):
    """A model whose attribute and hook are functions that have closed over its own module."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        inner = self.inner
        self.feature: Any = lambda x: inner(x).clone()
        self.partial = functools.partial(self._call, inner)
        self.default = _with_default(inner)

    @staticmethod
    def _call(module: nn.Module, x: Tensor) -> Any:
        return module(x)

    def forward(self, x: Tensor) -> Any:
        return self.feature(x)


def _with_default(module: nn.Module) -> Any:
    def call(x: Tensor, module: nn.Module = module) -> Any:
        return module(x)

    return call


def closed_over(function: Any) -> Any:
    if isinstance(function, functools.partial):
        return function.args[0]
    return function.__defaults__[0] if function.__defaults__ else function.__closure__[0].cell_contents


def test_functions_in_attributes_of_a_copy_refer_to_its_own_modules() -> None:
    model = Scaled()
    copy = copy_sharing_parameters(model)
    for name in ("feature", "partial", "default"):
        assert closed_over(getattr(copy, name)) is copy.inner, name
        assert closed_over(getattr(model, name)) is model.inner, name
    assert torch.equal(copy(torch.ones(1, 2)), model(torch.ones(1, 2)))


def test_a_function_that_refers_to_nothing_of_the_model_is_shared() -> None:
    outside = nn.Linear(2, 2)
    model = nn.Sequential(nn.ReLU())
    model.helper = _with_default(outside)
    assert copy_sharing_parameters(model).helper is model.helper


def model_with_hooks(features: dict[str, Any]) -> nn.Module:
    """A model with a hook that stores values in a dict, a hook that calls it, and a partial function with the dict."""

    def keep(_module: nn.Module, _inputs: Any, value: Tensor, name: str = "first") -> None:
        features[name] = value

    model = nn.Sequential(nn.ReLU())
    model[0].register_forward_hook(keep)
    model[0].register_forward_hook(lambda module, inputs, value: keep(module, inputs, value, "second"))
    model[0].register_forward_pre_hook(functools.partial(lambda kept, _module, _inputs: kept.update(third=1), features))
    return model


def test_the_hooks_of_an_isolated_copy_store_values_in_one_copy_of_the_dict() -> None:
    features: dict[str, Any] = {}
    model = model_with_hooks(features)
    copy: Any = copy_isolating_hooks(model)
    copy(torch.ones(1))
    assert features == {}
    stored = next(iter(copy[0]._forward_pre_hooks.values())).args[0]
    assert list(stored) == ["third", "first", "second"]
    copy_sharing_parameters(model)(torch.ones(1))
    assert list(features) == ["third", "first", "second"]


def test_a_function_that_refers_to_itself_is_copied() -> None:
    model = Scaled()
    inner = model.inner

    def again(x: Tensor, depth: int) -> Any:
        return inner(x) if depth == 0 else again(x, depth - 1)

    model.again = again  # type: ignore[assignment]
    copied: Any = copy_sharing_parameters(model).again
    assert torch.equal(copied(torch.ones(1, 2), 2), inner(torch.ones(1, 2)))
