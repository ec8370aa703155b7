from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery.errors import TraceError
from surgery.graph.trace_info import hazards


class Table(nn.Module):
    """Attention biases that are indexed from a parameter once, and kept for the next runs."""

    def __init__(self) -> None:
        super().__init__()
        self.biases = nn.Parameter(torch.randn(2, 5))
        self.places: Any
        self.register_buffer("places", torch.tensor([[0, 3], [4, 1]]))
        self.kept: dict[str, Tensor] = {}

    def table(self, key: str = "biases") -> Tensor:
        if key not in self.kept:
            self.kept[key] = self.biases[:, self.places]
        return self.kept[key]

    def forward(self, x: Tensor) -> Tensor:
        return (x * 2 + self.table()).softmax(-1)


class ByDevice(Table):
    """Keeps a table for each device, as LeViT does."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 + self.table(str(x.device))


class First(Table):
    """The kept value is the first operand of a function of torch."""

    def forward(self, x: Tensor) -> Tensor:
        table = self.table()
        return torch.matmul(table + x, table)


@pytest.mark.parametrize("net", [Table, ByDevice, First])
def test_a_kept_value_that_is_constant_across_runs_is_computed_anew(net: type[nn.Module]) -> None:
    model = net().eval()
    x = torch.randn(2, 2, 2)
    traced = surgery.trace(model, x)
    (hazard,) = hazards(traced)
    assert (hazard.kind, hazard.changes_result) == ("attribute", False)
    certificate = surgery.certify(model, traced, x)
    assert certificate.same, certificate.difference
    model(x)
    assert torch.equal(traced(x), model(x))


class Written(Table):
    """Doubles the kept value in every run."""

    def forward(self, x: Tensor) -> Tensor:
        self.table().mul_(2)
        return x + self.table()


class WrittenThroughAView(Table):
    def forward(self, x: Tensor) -> Tensor:
        flat = self.table().view(-1)
        flat += 1
        return x + self.table()


class WrittenByAModule(Table):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.table()) - self.table().neg()


class WrittenWhereItComesFrom(Table):
    """The parameter changes from run to run, and the kept value does not."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.biases.add_(1)
        return x + self.table()


class Noise(Table):
    """Keeps random numbers."""

    def forward(self, x: Tensor) -> Tensor:
        if "noise" not in self.kept:
            self.kept["noise"] = F.dropout(self.biases[:, self.places], 0.5)
        return x + self.kept["noise"]


class Last(nn.Module):
    """Adds the last run's value."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        before = self.kept.get("last", 0)
        self.kept["last"] = x * 1
        return x + before


class Positions(nn.Module):
    """The kept value is computed in the first run, and not from parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.arange(2).float().sin()
        return x + self.kept


class Once(Table):
    """Computes something else in its first run."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.kept:
            return x + self.table()
        return x - self.table()


@pytest.mark.parametrize(
    "net", [Written, WrittenThroughAView, WrittenByAModule, WrittenWhereItComesFrom, Noise, Last, Once, Positions]
)
def test_a_kept_value_that_may_change_between_runs_is_refused(net: type[nn.Module]) -> None:
    why = "writes to the parameter biases|sets the attribute kept, and a later run may read it"
    with pytest.raises(TraceError, match=why):
        surgery.trace(net().eval())
    surgery.trace(net().eval(), allow=["attribute", "parameter"])
