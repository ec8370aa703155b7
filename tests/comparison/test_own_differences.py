"""Own and inherited differences against a slow run of both graphs that copies all it touches."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

import surgery
from surgery.comparison import Run, compare
from surgery.graph import named_tensors, operation_groups

Split = tuple[float, float]


class Residual(nn.Module):
    """Additions, in-place operations, a parameter of its own and batch statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.scale = nn.Parameter(torch.randn(1, 4, 1, 1))
        self.gain = nn.Parameter(torch.randn(()))

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        y = self.act(self.norm(h))
        z = self.two(y) + y
        z += h
        z = z * self.scale
        z.mul_(2)
        return torch.cat([z, h], 1) * (self.gain * self.gain)


class Dense(nn.Module):
    """Concatenations of all that came before, and a write through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3 + 2 * n, 2, 3, padding=1) for n in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for conv in self.convs:
            found.append(F.relu(conv(torch.cat(found, 1)), inplace=True))
        found[1].view(1, 2, -1).add_(1)
        return found[1] + found[2] * found[3]


class Tuples(nn.Module):
    """Values of several tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, (h, _) = self.lstm(x.mean(1))
        z, weights = self.attention(y, y, y)
        best, _ = torch.max(self.linear(z), 1)
        one, other = z.chunk(2, -1)
        return (one + other).sum() + best + h[0], weights


class Dropping(nn.Module):
    """Random numbers of modules and of a function."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.drop = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.drop(self.one(x))) + torch.rand_like(x[:, :1, 4:, 4:])


def changed(model: nn.Module) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return other


def split_slowly(one: nn.Module, other: nn.Module, x: Tensor, seed: int) -> dict[str, Split]:
    """The greatest own and inherited relative difference of a tensor, for each operation of a single node."""
    graphs = [surgery.trace(each, x) for each in (one, other)]
    first, second = (fx.Interpreter(graph, garbage_collect_values=False) for graph in graphs)
    for each in (first, second):
        each.args_iter = iter([x.clone()])
    torch.manual_seed(seed)
    states = [torch.get_rng_state()] * 2
    names = {node.name: node for node in graphs[0].graph.nodes}
    found: dict[fx.Node, Split] = {}

    def step(place: int, interpreter: fx.Interpreter, node: fx.Node) -> Any:
        torch.set_rng_state(states[place])
        interpreter.env[node] = interpreter.run_node(node)
        states[place] = torch.get_rng_state()
        return interpreter.env[node]

    for node, twin in zip(graphs[0].graph.nodes, graphs[1].graph.nodes, strict=True):
        if node.op == "output":
            break
        if node.op in ("placeholder", "get_attr"):
            step(0, first, node)
            step(1, second, twin)
            continue
        given = fx.node.map_arg(
            (twin.args, dict(twin.kwargs)),
            lambda each: second.env[each] if each.op == "get_attr" else first.env[names[each.name]],
        )
        args, kwargs = copy.deepcopy(given)
        buffers = copy.deepcopy(graphs[1].state_dict())
        torch.set_rng_state(states[1])
        crossed = copy.deepcopy(getattr(second, twin.op)(twin.target, tuple(args), kwargs))
        graphs[1].load_state_dict(buffers)
        values = [copy.deepcopy(step(place, each, one)) for place, each, one in ((0, first, node), (1, second, twin))]
        tensors = zip(*([t.double() for _, t in named_tensors(v)] for v in (*values, crossed)), strict=True)
        shares = [(ratio(c - a, a), ratio(b - c, a)) for a, b, c in tensors]
        found[node] = (max(own for own, _ in shares), max(inherited for _, inherited in shares)) if shares else (0, 0)
    groups = [group for group in operation_groups(graphs[0]) if len(group.nodes) == 1]
    return {group.operation.path: found[group.node] for group in groups}


def ratio(difference: Tensor, value: Tensor) -> float:
    norm = float(value.norm())
    return float(difference.norm()) / norm if norm else (math.inf if difference.any() else 0.0)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("kind", [Residual, Dense, Tuples, Dropping])
@torch.no_grad()
def test_the_split_is_that_of_a_slow_run(kind: type[nn.Module], mode: Any) -> None:
    torch.manual_seed(0)
    model = kind().train(mode == "train")
    x = torch.randn(1, 3, 8, 8)
    for other in (changed(model), copy.deepcopy(model)):
        list(other.parameters())[-1].add_(0.5)
        rows = compare([Run(model, mode=mode, seed=3), Run(other, mode=mode, seed=3)], x).rows
        expected = split_slowly(copy.deepcopy(model), copy.deepcopy(other), x, seed=3)
        assert len(rows) >= 6
        for row in rows:
            assert (row.own, row.inherited) == pytest.approx(expected[row.operation.path], rel=1e-5, abs=1e-7)
