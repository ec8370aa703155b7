"""Inputs and outputs of every structure."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tests.traps import trap


def two() -> tuple[Tensor, Tensor]:
    return torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)


@trap()
class Keywords(nn.Module):
    def forward(self, x: Tensor, *, scale: float = 2.0, shift: Tensor | None = None) -> Tensor:
        return x * scale + (0 if shift is None else shift)


@trap(two)
class Several(nn.Module):
    def forward(self, x: Tensor, y: Tensor, z: float = 3.0) -> Tensor:
        y += x
        return x * y + z


@trap(lambda: (torch.randn(2, 3), torch.randn(2, 3), torch.randn(2, 3)))
class Star(nn.Module):
    def forward(self, first: Tensor, *rest: Tensor) -> Tensor:
        for other in rest:
            first = first + other
        return first * len(rest)


@trap()
class StarStar(nn.Module):
    def forward(self, x: Tensor, **options: Any) -> Tensor:
        return x * options.get("scale", 2)


@trap(lambda: (torch.randn(2, 3), 2.5))
class NumberInput(nn.Module):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x * scale + scale**2


@trap(lambda: ([torch.randn(2, 3), torch.randn(2, 3)],))
class ListInput(nn.Module):
    def forward(self, xs: list[Tensor]) -> Tensor:
        return xs[0] * 2 + xs[1].relu_()


@trap(lambda: ({"a": torch.randn(2, 3), "b": torch.randn(2, 3)},))
class DictInput(nn.Module):
    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return x["a"] * 2 + x["b"].relu_()


@trap(lambda: ({"a": torch.randn(2, 3), "b": torch.randn(2, 3)},), refused="a loop, or an unpacking")
class DictLoop(nn.Module):
    def forward(self, x: dict[str, Tensor]) -> Tensor:
        total = torch.zeros(2, 3)
        for value in x.values():  # here
            total = total + value
        return total


@trap(lambda: (None, torch.randn(2, 3)))
class NoneInput(nn.Module):
    """None in the example becomes part of the graph."""

    def forward(self, mask: Tensor | None, x: Tensor) -> Tensor:
        if mask is not None:
            return x * mask
        return x * 2


@trap(lambda: (torch.randn(2, 3), True))
class FlagInput(nn.Module):
    """A flag in the example becomes part of the graph."""

    def forward(self, x: Tensor, flag: bool) -> Tensor:
        return x * 2 if flag else x


@trap()
class NestedOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 4, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Any]:
        rows, (hidden, _) = self.lstm(x[:, 0])
        top = rows.topk(2)
        return {"rows": rows, "pair": [hidden, {"top": top}], "size": x.shape[2:], "name": "n", "none": None, "n": 3}


class Result(NamedTuple):
    value: Tensor
    more: Any = None


@trap()
class NamedOutput(nn.Module):
    def forward(self, x: Tensor) -> Result:
        return Result(x * 2, [x.relu(), (x.shape[0], 1)])


@trap()
class NamedInside(nn.Module):
    """Torch's named tuples, read by name and by index."""

    def forward(self, x: Tensor) -> Tensor:
        top = x.max(1)
        parts = torch.sort(x, dim=1)
        return top.values + top.indices + parts[0][:, 0] + parts.indices[:, 1]


Old = namedtuple("Old", ["a", "b"])  # noqa: PYI024


@trap()
class OldNamed(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return Old(x * 2, x + 1)


@dataclass
class Answer:
    value: Tensor
    more: Any


@trap()
class DataclassOutput(nn.Module):
    def forward(self, x: Tensor) -> Answer:
        return Answer(x * 2, {"a": x.relu()})


@trap()
class SameTwice(nn.Module):
    """One tensor under two names of the output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = x * 2
        return h, h, h[0]


@trap()
class ItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@trap()
class NothingOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))

    def forward(self, x: Tensor) -> None:
        self.total.add_(x.detach().sum())


@trap()
class ConstantOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Any:
        return self.weight, torch.ones(2), 3, x.shape


@trap(lambda: (torch.randn(2, 3), torch.randn(2, 3)))
class Positional(nn.Module):
    def forward(self, x: Tensor, y: Tensor, /, scale: float = 2) -> Tensor:
        return x * scale + y


@trap()
class Reserved(nn.Module):
    """Names that mean something to Python or to a graph."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return self.output(input)

    def output(self, self_: Tensor) -> Tensor:
        return self_ * 2


@trap()
class CalledByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(8, 8, 4)
        self.inner = Keywords()

    def forward(self, x: Tensor) -> Tensor:
        return self.bilinear(input1=x, input2=x * 2) + self.inner(x=x[..., :4], shift=x[..., 4:])


@trap(refused="a branch or loop")
class ForwardCalled(nn.Module):
    """Calls `forward` of its submodules directly, without their hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm.forward(self.conv.forward(x))  # here


@trap()
class OtherMethods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def features(self, x: Tensor, depth: int = 2) -> Tensor:
        return self.conv(self.features(x, depth - 1)).relu_() if depth else x

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


@trap(refused="is not an instance of torch.Tensor")
class Functional(nn.Module):
    """Calls a submodule with other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = {"weight": self.conv.weight * 2, "bias": self.conv.bias + 1}
        return torch.func.functional_call(self.conv, weights, (x,))  # here


@trap()
class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 3, 1)
        self.same = self.one
        self.tied = nn.Conv2d(3, 3, 1)
        self.tied.weight = self.one.weight
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.tied(self.act(self.same(self.act(self.one(x))))))


@trap()
class SharedContainer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))
        self.stack = nn.Sequential(self.block, self.block)

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(self.block(x)) + self.block[0](x)


class Outside:
    def __init__(self) -> None:
        self.layer = nn.Conv2d(3, 3, 1)


@trap(refused="has not registered")
class HiddenModule(nn.Module):
    """A module that is not registered."""

    def __init__(self) -> None:
        super().__init__()
        self.outside = Outside()

    def forward(self, x: Tensor) -> Tensor:
        return self.outside.layer(x)  # here


@trap(refused="has not registered")
class HiddenList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Conv2d(3, 3, 1)]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)  # here


@trap(refused="a branch or loop")
class MadeInForward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.ReLU(inplace=True)(nn.Conv2d(3, 3, 1)(x))  # here


@trap()
class PureInForward(nn.Module):
    """A module without weights that is made in forward."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.Upsample(scale_factor=2)(nn.ReLU()(x))
