"""Tensors of every kind: dtypes, layouts, empty ones, scalars, subclasses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.traps import trap


@trap()
class Dtypes(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            x.half() / 3,
            x.bfloat16().exp(),
            (x > 0) | (x < -1),
            (x * 9).long() // 2,
            (x * 9).to(torch.int8).float(),
            (x * 9).to(torch.uint8),
            x.double().to(torch.float8_e4m3fn),
            x.sum(),
            x[:0],
        )


@trap(lambda: (torch.randn(2, 3, 8, 8, dtype=torch.bfloat16),))
def bfloat16() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True)).bfloat16()


@trap(lambda: (torch.randn(2, 3, 8, 8, dtype=torch.half),))
def half() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True), nn.Dropout()).half()


@trap(lambda: (torch.randn(2, 3, 8, 8, dtype=torch.double),))
def double() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.Softmax(1)).double()


@trap()
class Complex(nn.Module):
    def forward(self, x: Tensor) -> Any:
        spectrum = torch.fft.rfft2(x)
        spectrum *= 1j
        spectrum.real.mul_(2)
        torch.view_as_real(spectrum)[..., 1].add_(1)
        mirrored = spectrum.conj()
        return torch.fft.irfft2(spectrum), mirrored, mirrored.imag, torch.complex(x, x).angle()


@trap(lambda: (torch.randn(2, 3, dtype=torch.cfloat),))
class ComplexWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, dtype=torch.cfloat)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).abs()


@trap(lambda: (torch.randint(0, 10, (2, 5)),))
class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4, padding_idx=0)
        self.bag = nn.EmbeddingBag(10, 4, mode="mean")

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x).sum(1) + self.bag(x) + (x % 3)[:, :4]


class MaxNorm(nn.Module):
    """An embedding that renormalizes the weights that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4, max_norm=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding(x) * 2  # here


trap(lambda: (torch.randint(0, 10, (2, 5)),), refused="the parameter embedding.weight")(MaxNorm)


@trap(lambda: (torch.zeros(0, 3, 8, 8),))
def empty_batch() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True))


@trap(lambda: (torch.tensor(2.0),))
class NoDimensions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        h += 1
        h.fill_(3)
        h[...] = x
        return h[None].squeeze(0)


@trap()
class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.to(memory_format=torch.channels_last)
        return self.conv(h).contiguous(memory_format=torch.contiguous_format) * h.stride(1)


@trap(lambda: (torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last),))
def channels_last_input() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(0))
    return model.to(memory_format=torch.channels_last)


@trap(lambda: (torch.eye(4).to_sparse(),))
class SparseInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(x, self.weight).relu_()


@trap()
class SparseInside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = (x > 0).double().flatten(1).to_sparse()
        return h.to_dense() + torch.sparse.sum(h) + h.to_sparse_csr().to_dense()


class Plain(Tensor):
    """A subclass that does nothing."""


class Loud(Tensor):
    """A subclass that changes what an operation does."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        value = super().__torch_function__(func, types, args, kwargs or {})
        return value + 1 if func is torch.nn.functional.linear else value


class Weighted(nn.Module):
    def __init__(self, kind: type[Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.linear.weight = nn.Parameter(torch.randn(8, 8).as_subclass(kind))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * 2


@trap(picklable=False)
def subclass_parameter() -> nn.Module:
    return Weighted(Plain)


@trap(picklable=False)
def loud_parameter() -> nn.Module:
    return Weighted(Loud)


class Subclassed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.linear.weight) * 2


@trap(lambda: (torch.randn(2, 8).as_subclass(Plain),))
def subclass_input() -> nn.Module:
    return Subclassed()


@trap(lambda: (torch.randn(2, 8).as_subclass(Loud),))
def loud_input() -> nn.Module:
    return Subclassed()


@trap(refused="argument of type: <class")
class SubclassMade(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = (x * 2).as_subclass(Plain)  # here
        return h + 1


@trap()
class NotANumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x / 0
        h[0] = float("nan")
        return torch.cat([h, -h, x * -0.0])


@trap()
class Quantized(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.quantize_per_tensor(x.detach(), 0.1, 10, torch.quint8)
        return h.dequantize() + h.int_repr() + x


@trap()
class Named(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=(2, 3)).to(torch.float64).type_as(x).to("cpu", torch.float16).to(x)


@trap(refused="__cuda_array_interface__")
class NestedTensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.nested.nested_tensor([x[0, 0], x[1, 0, :4]])  # here
        return torch.nested.to_padded_tensor(h, 0.0)


@trap(lambda: (torch.randn(2, 3, requires_grad=True),))
class GradInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()
