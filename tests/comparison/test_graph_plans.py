"""Copies of graphs for runs."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import surgery
from surgery.comparison.graph_plans import GraphCopies


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


def test_each_run_begins_with_the_buffers_of_the_model() -> None:
    model: Any = surgery.trace(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train(), torch.randn(2, 3, 4, 4))
    before = copy.deepcopy(model.state_dict())
    copies = GraphCopies(model)
    plan = copies.take()
    plan.model(torch.randn(2, 3, 4, 4))
    assert not torch.equal(dict(plan.model.named_buffers())["1.running_mean"], before["1.running_mean"])
    again = copies.take()
    assert again is plan
    assert all(torch.equal(value, before[name]) for name, value in again.model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_module_with_state_in_python_is_copied_for_each_run() -> None:
    model: Any = surgery.trace(nn.Sequential(nn.Identity(), Counting()), torch.zeros(1, 1), leaves=["1"])
    copies = GraphCopies(model)
    outputs = [copies.take().model(torch.zeros(1, 1)) for _ in range(2)]
    assert torch.equal(*outputs)
