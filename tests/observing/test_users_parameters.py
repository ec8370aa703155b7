"""The parameters of the user's model keep their values, gradients and dtypes, whatever forward does to them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.graph import FrontEnd

X = torch.linspace(-1, 1, 4).view(1, 4)


class LearnsAsItRuns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            self.layer(x).pow(2).sum().backward()
        gradient = self.layer.weight.grad
        assert gradient is not None
        return self.layer(x) * gradient.sum()


@pytest.mark.parametrize("has_gradient", [False, True])
def test_gradients_of_the_users_model_stay_as_they_were(has_gradient: bool) -> None:
    model = LearnsAsItRuns().eval()
    weight = model.layer.weight
    gradient = weight.grad = torch.ones(4, 4) if has_gradient else None
    traced = surgery.trace(model, X)
    surgery.record(surgery.insert(traced, surgery.operations(traced)), X)
    assert weight.grad is gradient
    assert gradient is None or torch.equal(gradient, torch.ones(4, 4))


class Special(nn.Parameter):
    """A parameter with a class of its own, and no more than that."""


@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_a_parameter_of_a_users_class_is_not_moved_with_the_traced_model(front_end: FrontEnd) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = Special(model[0].weight.detach())
    traced = surgery.trace(model, X, front_end=front_end).double()
    assert model[0].weight.dtype == torch.float32
    weight = traced.get_parameter("0.weight")
    assert (type(weight), weight.dtype) == (Special, torch.float64)


class CountsInNumpy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.count.detach().numpy()[0] += 1
        return x * self.count


def test_what_forward_writes_through_numpy_stays_in_the_traced_model() -> None:
    model = CountsInNumpy().eval()
    traced = surgery.trace(model, X)
    opened = surgery.insert(traced, surgery.operations(traced))
    surgery.record(opened, X)
    assert torch.equal(model.count, torch.ones(4))
