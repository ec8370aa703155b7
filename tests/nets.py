"""Small models, each difficult in one way, and two references for the values that they compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from surgery.graph.tensors import named_tensors

if TYPE_CHECKING:
    from collections.abc import Callable


def eager_values(model: nn.Module, *inputs: Any) -> dict[str, list[Tensor]]:
    """Return the values of each torch module in an eager run, by its path, cloned as soon as they are computed."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, value: Any) -> None:
            seen.setdefault(name, []).extend(tensor.detach().clone() for _, tensor in named_tensors(value))

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in model.named_modules() if _is_torchs(module)]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _is_torchs(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.") and not isinstance(module, nn.Sequential)


class Oracle(fx.Interpreter):
    """Runs a traced graph node by node without extractors, and clones each value as soon as it is computed."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.values: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op.startswith("call_") and not isinstance(n.target, type):
            self.values += [tensor.detach().clone() for _, tensor in named_tensors(value)]
        return value


class InPlace(nn.Module):
    """Every value is overwritten by a later in-place operation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.norm(self.conv(x)))
        skip = h
        F.leaky_relu_(h, 0.3)
        h += 1
        view = h.view(h.shape[0], -1)
        view *= 2
        h.mul_(0.5)
        h[:, 0] = 3.0
        return torch.cat([skip, self.drop(h)], 1)


class Containers(nn.Module):
    """Operations whose values are tuples, lists and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Any]:
        sequence, (hidden, _cell) = self.lstm(x)
        first, second = torch.split(sequence, 3, dim=1)
        return {"first": first + 1, "more": [second, hidden.sum()], "rows": x.shape[1]}


class Reused(nn.Module):
    """A module that is called twice, and a parameter that two modules share."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.shared.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.shared(self.shared(x)))


class Counting(nn.Module):
    """Writes to its buffers in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        self.register_buffer("average", torch.zeros(3))
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)  # type: ignore[operator]
        self.average.mul_(0.9).add_(x.mean(0), alpha=0.1)  # type: ignore[operator]
        return x * self.average + self.scratch * self.calls


class TwoWays(nn.Module):
    """Does something else in train mode: an argument, a branch and the output depend on it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.side = nn.Linear(3, 2)
        self.factor = torch.tensor([2.0])

    def forward(self, x: Tensor) -> Any:
        h = F.dropout(self.first(x), 0.5, training=self.training) * self.factor
        if self.training:
            return h + torch.tensor([1.0]), self.side(h)
        return h.relu()


class Constant(nn.Module):
    """Has a tensor that is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.plain + torch.tensor([1.0, 0.0, 1.0])


class Branching(nn.Module):
    """Can't be traced because of one module."""

    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                return x
            return -x

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.gate = Branching.Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.conv(x))
