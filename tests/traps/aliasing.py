"""Views, writes through them, and memory that has several names."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.traps import trap


@trap()
class ViewThenWrite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        part = h[:, 1:]
        part += 1
        part.transpose(2, 3).mul_(3)
        h.view(-1)[::7].zero_()
        F.relu(h, inplace=True)
        torch.sigmoid_(h[:, 0])
        h.select(1, 2).copy_(h[:, 0])
        return h


@trap()
class WriteToBaseAfterView(nn.Module):
    """Reads a view after a write to its base."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = x + 0
        row = h[0]
        flat = h.flatten()
        h.neg_()
        return row + 1, flat.clone()


@trap()
class Detached(nn.Module):
    """A detached view shares its memory."""

    def forward(self, x: Tensor) -> Tensor:
        h = x + 0
        h.detach().mul_(2)
        h.detach_().add_(1)
        return h * 3


@trap()
class ByData(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x + 0
        h.data.clamp_(min=0)
        other = x * 3
        other.data = h.data * 2
        return h + other


@trap()
class Unbound(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.detach() + 0
        first, second, third = h.unbind(1)
        first.add_(second)
        third.zero_()
        return h * 2 + x


@trap()
class Chunked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.detach() + 0
        left, right = h.chunk(2, dim=3)
        left += 5
        right *= left
        top, rest = h.split([1, 2], dim=1)
        top.sub_(1)
        torch.tensor_split(rest, 2, 1)[1].mul_(0.5)
        return torch.cat([left, right], 3) + h + x


@trap(refused="a loop, or an unpacking, over a tensor")
class ChunkedLoop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x + 0
        for part in h.chunk(2, 1):  # here
            part.mul_(2)
        return h


@trap()
class Expanded(nn.Module):
    """Reads an expanded view of what is written afterwards."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        wide = mean.expand_as(x)
        mean.mul_(2)
        return x - wide


@trap()
class WrittenByIndex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        rows = torch.tensor([0, 1])
        h.index_put_((rows, rows), h[0, 0] * 2)
        h.scatter_(1, torch.zeros(2, 1, 8, 8, dtype=torch.long), 7.0)
        h.scatter_add_(1, torch.ones(2, 1, 8, 8, dtype=torch.long), x[:, :1])
        h.masked_fill_(h > 1, -1.0)
        h.index_add_(1, torch.tensor([2]), x[:, :1])
        h.index_copy_(1, torch.tensor([0]), x[:, 1:2])
        h.index_fill_(2, torch.tensor([0, 3]), 2.0)
        h.masked_scatter_(h < -1, x)
        h[h > 1.5] = 0
        h[:, [0, 2]] *= 0.5
        h[..., None, 0].squeeze(-1)[1] = 9
        return h


@trap()
class Where(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.where(x > 0, x, torch.zeros_like(x))
        h.lerp_(x, 0.3).addcmul_(x, x, value=0.1)
        mask = (h > 0).logical_not_()
        mask |= x > 1
        return h.masked_fill(mask, 2)


@trap()
class ByOut(nn.Module):
    """Writes results to `out`, which autograd refuses."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.empty(0)
        torch.add(x, 1, out=h)
        torch.mul(h, 2, out=h)
        both = torch.empty(4, 3, 8, 8)
        torch.cat([x, h], 0, out=both)
        values, places = torch.empty(0), torch.empty(0, dtype=torch.long)
        torch.max(both, 1, out=(values, places))
        return both.sum(1) + values + places


@trap()
class Resized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.detach().clone()
        h.resize_(2, 192)
        h.t_()
        h.unsqueeze_(0).squeeze_(0)
        h.transpose_(0, 1)
        h.resize_as_(x)
        return h + x


@trap()
class SetTo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(1)
        h.set_(x.detach().clone())
        other = h[0]
        h.add_(1)
        return other + x


@trap()
class Strided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.detach().clone()
        torch.as_strided(h, (2, 2), (1, 8)).fill_(3)
        h.diagonal(dim1=2, dim2=3).zero_()
        h.unfold(3, 2, 2)[..., 1].add_(1)
        h.movedim(1, 3)[..., 0] = 4
        h.view(torch.int32).bitwise_and_(-2)
        return h + x


@trap()
class OnItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        F.leaky_relu_(x, 0.1)
        x[0] = 1
        x += 1
        return x


@trap()
class MaybeAView(nn.Module):
    """`reshape` and `contiguous` return a view or a copy."""

    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        h.reshape(2, -1).mul_(2)
        h.transpose(1, 2).reshape(2, -1).mul_(5)
        h.contiguous().add_(1)
        h.to(torch.float32).add_(1)
        h.float().sub_(3)
        h.transpose(1, 2).contiguous().add_(100)
        return h


@trap(refused="unsupported operation: more than one element of the written-to tensor")
class ExpandedWrite(nn.Module):
    """A write that torch itself refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:1].expand(2, 3, 8, 8).add_(1)


@trap()
class Swapped(nn.Module):
    """Variables swap their values."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x * 1, x * 2
        for _ in range(3):
            a, b = b, a
            a += b
            b.mul_(0.5)
        return a - b


@trap()
class DeadWrites(nn.Module):
    """Writes whose results nobody uses."""

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        h.mul_(2)
        torch.relu_(h)
        F.elu(h, inplace=True)
        F.hardtanh(h, -1, 1, inplace=True)
        h[0].zero_()
        nn.functional.threshold_(h, 0.1, 0.2)
        torch.clamp_(h[:, 1], max=0.5)
        _ = h.exp_()
        h.add(100)
        return h


@trap()
class InPlaceChain(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(inplace=True),
            nn.BatchNorm2d(4),
            nn.SiLU(inplace=True),
            nn.Dropout(inplace=True),
            nn.Hardswish(inplace=True),
        )


@trap()
class MixedDtypes(nn.Module):
    """In-place arithmetic keeps the type of its target."""

    def forward(self, x: Tensor) -> Tensor:
        h = torch.ones(8, dtype=torch.long)
        h += 2
        h //= 2
        h <<= 3
        h ^= 5
        h %= 4
        h **= 2
        f = x.half()
        f += x.double()
        f /= 3
        m = x > 0
        m &= x < 1
        return x * h + f + m


@trap()
class Matmul(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 1
        g = h
        h @= x.transpose(2, 3)
        g -= 1
        return h
