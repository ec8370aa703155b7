"""Wherever forward may write to a parameter in train mode alone, a traced model has a copy of the parameter."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

import surgery
from surgery.observing.written_in_modes import may_write_in_one_mode


class Learning(nn.Module):
    """Learns in train mode, in a method that the derived classes reach in their own ways."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.zeros(4), requires_grad=False)

    def learn(self, x: Tensor) -> Tensor:
        if self.training:
            self.entries.data.add_(x.mean(0))
        return x - self.entries


class ByName(Learning):
    def forward(self, x: Tensor) -> Tensor:
        return self.learn(x)


class ByText(Learning):
    def forward(self, x: Tensor) -> Tensor:
        method: Tensor = getattr(self, "le" + "arn")(x)
        return method


class ByProperty(Learning):
    @property
    def learned(self) -> Callable[[Tensor], Tensor]:
        return self.learn

    def forward(self, x: Tensor) -> Tensor:
        return self.learned(x)


class ByHook(Learning):
    def __init__(self) -> None:
        super().__init__()
        self.register_forward_pre_hook(type(self).before)

    def before(self, inputs: Any) -> None:
        self.learn(*inputs)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.entries


def call(model: Any, x: Tensor) -> Tensor:
    result: Tensor = Helper().call(model, x)
    return result


class Helper:
    def call(self, model: Any, x: Tensor) -> Any:
        return model.learn(x)


class ByFunction(Learning):
    def forward(self, x: Tensor) -> Tensor:
        return call(self, x)


def doing_nothing(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Wrapped(Learning):
    @doing_nothing
    def forward(self, x: Tensor) -> Tensor:
        return self.learn(x)


@pytest.mark.parametrize("kind", [ByName, ByText, ByProperty, ByHook, ByFunction, Wrapped])
def test_what_is_written_in_train_mode_alone_is_copied(kind: type[Learning]) -> None:
    model = kind().eval()
    traced = surgery.trace(model, torch.ones(2, 4), front_end="observed").train()
    traced(torch.ones(2, 4))
    assert model.entries.sum() == 0
    assert traced.get_parameter("entries").sum() > 0


class Filled(nn.Module):
    """Fills its weights when it is made, and asks for its mode in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.zeros_(self.layer.bias)
        self.layer.weight.data.normal_()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(x), 0.5, self.training)


@pytest.mark.parametrize("make", [Filled, lambda: get_model("swin_t"), lambda: get_model("densenet121")])
def test_models_that_fill_weights_when_they_are_made_need_no_other_run(make: Callable[[], nn.Module]) -> None:
    assert not may_write_in_one_mode(make())
