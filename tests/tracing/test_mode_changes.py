"""Models whose own `train` changes weights: no graph, and the user's weights stay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import TraceError
from surgery.graph import trace_info


class Merging(nn.Linear):
    """Adds a low-rank update to its weight in eval mode, as LoRA does."""

    scale: Tensor

    def __init__(self, how: str) -> None:
        super().__init__(4, 4)
        self.down, self.up = nn.Parameter(torch.randn(1, 4)), nn.Parameter(torch.randn(4, 1))
        self.register_buffer("scale", torch.ones(()))
        self.merged, self.how = False, how

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if self.merged is mode and self.how != "nothing":
            sign = -1 if mode else 1
            if self.how == "in place":
                self.weight.data += sign * (self.up @ self.down).data
            elif self.how == "another parameter":
                self.weight = nn.Parameter((self.weight + sign * self.up @ self.down).detach())
            else:
                self.scale = self.scale + sign
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x) * self.scale
        return y if self.merged else y + x @ self.down.T @ self.up.T


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("how", ["in place", "another parameter", "a buffer"])
def test_a_model_whose_train_changes_weights_gets_no_graph_and_keeps_its_weights(
    how: str, training: bool, inside: bool
) -> None:
    layer = Merging(how)
    model = (nn.Sequential(layer, nn.ReLU()) if inside else layer).train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(
        TraceError, match=r"Merging\.train \(.*test_mode_changes\.py:\d+\) changes .*(weight|scale) when"
    ):
        surgery.trace(model, torch.randn(2, 4), front_end="symbolic")
    traced = surgery.trace(model, torch.randn(2, 4))
    assert trace_info(traced).front_end == "observed"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert layer.merged is not training


def test_a_train_of_its_own_that_changes_no_weight_is_traced() -> None:
    traced = surgery.trace(Merging("nothing"), torch.randn(2, 4), front_end="symbolic")
    assert trace_info(traced).front_end == "symbolic"
