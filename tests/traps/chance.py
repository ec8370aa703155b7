"""Random numbers: drawn anew in each run, in the same order, from the same generators."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.traps import trap


@trap()
class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(x.shape[0], 1, 1, 1, device=x.device) * torch.rand(()) + torch.randn_like(x)


@trap()
class Drawn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.bernoulli(torch.full((8,), 0.5)) + torch.randperm(8) + torch.randint(0, 5, (8,))
        g = x.detach().clone()
        g.bernoulli_(0.3).add_(torch.empty_like(g).uniform_()).add_(torch.empty(8).normal_())
        picked = torch.multinomial(x.detach().abs().flatten(1) + 0.1, 3)
        return x * h + g + picked.sum() + torch.normal(0.0, 1.0, (8,)) + torch.poisson(x.detach().abs())


@trap()
class Dropouts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout2d(0.3)
        self.alpha = nn.AlphaDropout(0.2)
        self.leaky = nn.RReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.leaky(self.alpha(self.drop(x + 0)))
        h = F.dropout(h, 0.5, self.training)
        h = F.dropout(h, 0.5, training=self.training, inplace=True)
        h = F.rrelu(h, training=self.training)
        return F.dropout(h) + F.gumbel_softmax(x, dim=1, hard=True)


@trap()
class DropPath(nn.Module):
    """Stochastic depth in its usual form."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        mask = x.new_empty((x.shape[0],) + (1,) * (4 - 1)).bernoulli_(0.7)
        mask.div_(0.7)
        return x * mask


@trap()
class Seeded(nn.Module):
    """Seeds torch's global generator."""

    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(7)
        return x + torch.randn(8)


class OwnGenerator(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return x + torch.randn(8, generator=generator)  # here


trap(refused="a random generator that a graph can't store")(OwnGenerator)


class KeptGenerator(nn.Module):
    """A generator whose state continues from run to run."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn(8, generator=self.generator)  # here


trap(refused="a random generator that a graph can't store")(KeptGenerator)


@trap(refused="generator")
class PythonsRandom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * random.random()  # here


@trap(refused="generator")
class NumpysRandom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.rand())  # noqa: NPY002  # here


@trap(refused="something else each time")
class NumpysNewRandom(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.default_rng().random())  # here


@trap(refused="a function that needs the values of a tensor")
class Luck(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(torch.randint(1, 4, ()).item())):  # here
            x = x + 1
        return x


@trap()
class DrawnFromAPlainTensor(nn.Module):
    """Draws from a tensor that is neither a parameter nor a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.chances = torch.full((3, 1, 1), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.bernoulli(self.chances)


@trap(refused="a branch or loop")
class LayerDrop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.rand(1) < 0.5:  # here
            x = self.conv(x)
        return x


@trap(refused="a loop, or an unpacking")
class Rates(nn.Module):
    """Needs the values of a tensor that it makes while it is traced."""

    def forward(self, x: Tensor) -> Tensor:
        for rate in torch.linspace(0, 1, 4).tolist():  # here
            x = x * (1 - rate / 2)
        return x


class Distribution(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.distributions.Normal(x, 1.0, validate_args=False).rsample()  # here


trap(refused="a loop, or an unpacking")(Distribution)


class Forked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            h = x + torch.randn(8)
        return h + torch.randn(8)


trap()(Forked)


@trap()
class Accumulating(nn.Module):
    """Writes to a tensor that each run makes anew."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(3, 1, 1)
        for _ in range(3):
            total += x.mean((0, 2, 3)).view(3, 1, 1)
        steps = torch.arange(3).view(3, 1, 1)
        steps[0] = 7
        literal = torch.tensor([1.0, 2.0, 3.0])
        literal.mul_(2)
        other = torch.as_tensor([1.0, 2.0, 3.0])
        other[0] += 1
        made = Tensor([1, 2, 3])
        made.add_(1)
        return x * total + steps + (literal + other + made).view(3, 1, 1)


@trap()
class NewTensors(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 1, 1, 1)
        h += 1
        g = x.new_tensor([1.0] * 8)
        g *= 3
        k = torch.FloatTensor([1, 2, 3, 4, 5, 6, 7, 8])
        k -= 1
        n = torch.from_numpy(np.ones(8, dtype=np.float32))
        n += 1
        return x * h + g + k + n


@trap()
class Device(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.device("cpu"):
            h = torch.ones(8)
        h.add_(1)
        return x + h + torch.zeros(8, dtype=x.dtype, device=x.device)
