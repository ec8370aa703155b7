"""State that a model keeps from run to run: buffers, attributes, caches, globals."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from tests.traps import trap

CALLS = 0
SEEN: dict[str, int] = {}
LOG: list[str] = []


@trap()
class CountedBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[assignment, operator]
        return x * self.calls


@trap()
class AveragedBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            mean = x.mean((0, 2, 3))
            self.average.mul_(0.9).add_(mean, alpha=0.1)
            self.scratch.copy_(self.average)
            self.average[0] = 1
            self.get_buffer("scratch").add_(1)
        return x * self.average.view(3, 1, 1) + self.scratch.view(3, 1, 1)


@trap()
class BufferData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.average.data = self.average * 0.5 + x.mean((0, 2, 3)).detach()
        return x * self.average.view(3, 1, 1)


@trap()
class ParameterWritten(nn.Module):
    """Weights that forward itself normalizes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        h = x * (self.weight + 0).view(3, 1, 1)
        return h / (self.weight * 2).abs().sum()


@trap(refused="the parameter weight")
class ParameterChanged(nn.Module):
    """Writes to a parameter, which the traced model shares."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.mul_(0.5)  # here
        return x * self.weight.view(3, 1, 1)


@trap(refused="the parameter weight")
class ParameterWrittenThroughData(nn.Module):
    """Writes to a parameter past autograd, and gives another one other memory, as weight standardization does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.arange(3.0))
        self.other = nn.Parameter(torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.mul_(0.5)
        self.other.data = self.other.data - self.other.data.mean()
        return x * self.weight.view(3, 1, 1) + self.other.view(3, 1, 1)


@trap(refused="writes or replaces the buffer average")
class ReplacedBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.average: Tensor = self.average + 1  # here
        return x * self.average


@trap(refused="attribute calls")
class Counted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # here
        return x * self.calls


@trap(refused="attribute first")
class FirstTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = True

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x * 2
            self.first = False  # here
        return x + 1


@trap(refused="attribute inner.log")
class Mutated(nn.Module):
    """Branches on the length of a list that grows."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log: list[int] = []

        def forward(self, x: Tensor) -> Tensor:
            self.log.append(1)
            return x * len(self.log)  # here

    def __init__(self) -> None:
        super().__init__()
        self.inner = Mutated.Inner()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@trap(refused="attribute seen")
class MutatedInDepth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen = {"calls": [0]}

    def forward(self, x: Tensor) -> Tensor:
        self.seen["calls"][0] += 1
        return x * self.seen["calls"][0]  # here


class Box:
    def __init__(self) -> None:
        self.count = 0


@trap(refused="attribute box")
class MutatedObject(nn.Module):
    """Counts in an object of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Box()

    def forward(self, x: Tensor) -> Tensor:
        self.box.count += 1
        return x * self.box.count  # here


@trap(refused="attribute last")
class Recurrent(nn.Module):
    """Uses the value of the previous run."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        h = x if self.last is None else x + self.last
        self.last = h.mean()  # here
        return h * 2


@trap()
class Remembering(nn.Module):
    """Keeps a value and never reads it."""

    def forward(self, x: Tensor) -> Tensor:
        self.shape = x.shape
        self.seen = x * 2
        return self.seen + 1


@trap()
class PlainTensor(nn.Module):
    """Writes to a tensor that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(3)
        self.table = [torch.ones(3), torch.zeros(3)]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.count.view(3, 1, 1) + self.table[0].view(3, 1, 1)


@trap(refused="attribute count")
class PlainTensorWritten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(3)

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1  # here
        return x * self.count.view(3, 1, 1)


@trap(refused="something else each time")
class GlobalCounter(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        global CALLS  # noqa: PLW0603
        CALLS += 1
        return x * CALLS  # here


@trap(refused="something else each time")
class GlobalTable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        SEEN["calls"] = SEEN.get("calls", 0) + 1
        return x * SEEN["calls"]  # here


@trap()
class GlobalLog(nn.Module):
    """Writes a log that no run reads."""

    def forward(self, x: Tensor) -> Tensor:
        LOG.append("called")
        return x * 2


@functools.lru_cache(maxsize=4)
def grid(rows: int, columns: int) -> Tensor:
    return torch.linspace(0, 1, rows)[:, None] * torch.linspace(0, 1, columns)


@trap()
class Cached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * grid(8, 8)


@trap()
class CachedMethod(nn.Module):
    @functools.lru_cache  # noqa: B019
    def window(self, size: int) -> Tensor:
        return torch.hann_window(size)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.window(8)


@trap(refused="attribute window")
class CachedProperty(nn.Module):
    @functools.cached_property
    def window(self) -> Tensor:
        return torch.arange(8.0)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.window


@trap()
class CachedAndReset(nn.Module):
    """Replaces its kept value in each run."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.kept = torch.arange(8.0)
        return x * self.kept


@trap(refused="a function with a cache")
class CachedWritten(nn.Module):
    """Writes to a cached value, so that the next run differs."""

    def forward(self, x: Tensor) -> Tensor:
        table = grid(8, 8)
        table += 1  # here
        return x * table


@trap(refused="attribute kept")
class CachedByShape(nn.Module):
    """Makes a table in the first run, and again when the size changes."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.arange(8.0) + x.shape[0]  # here
        return x * self.kept


class Lazily(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


trap(refused="gets its parameters in the first run")(Lazily)


@trap()
class LazyButReady(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyConv2d(4, 3)
        self.layer(torch.zeros(1, 3, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


@trap(refused="mode")
class ChangesItsMode(nn.Module):
    """Changes the mode of a submodule in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        self.norm.eval()  # here
        return self.norm(x)
