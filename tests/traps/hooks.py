"""Hooks of every kind, and features of torch that use them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.traps import trap


def doubled(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return output * 2


def shifted(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (inputs[0] + 1, *inputs[1:])


def written(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
    output.mul_(3)


def with_kwargs(_module: nn.Module, args: Any, kwargs: Any) -> Any:
    return args, {**kwargs, "shift": 5.0}


def after_kwargs(_module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor:
    return output + kwargs.get("shift", 0.0)


def backward(_module: nn.Module, grad_input: Any, _grad_output: Any) -> Any:
    return tuple(None if gradient is None else gradient * 2 for gradient in grad_input)


def before_backward(_module: nn.Module, grad_output: Any) -> Any:
    return tuple(gradient * 3 for gradient in grad_output)


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, shift: float = 0.0) -> Tensor:
        return self.conv(x) + shift


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True))
        self.shift = Shift()
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shift(self.block(x)))


@trap()
def on_leaves() -> nn.Module:
    net = Net()
    net.last.register_forward_hook(doubled)
    net.last.register_forward_pre_hook(shifted)
    net.block[0].register_forward_hook(written)
    net.block[1].register_forward_hook(doubled, prepend=True)
    return net


@trap()
def on_containers() -> nn.Module:
    net = Net()
    net.block.register_forward_hook(doubled)
    net.block.register_forward_hook(written)
    net.block.register_forward_pre_hook(shifted)
    net.shift.register_forward_pre_hook(shifted)
    return net


@trap()
def on_the_root() -> nn.Module:
    net = Net()
    net.register_forward_hook(doubled)
    net.register_forward_pre_hook(shifted)
    return net


@trap()
def with_keywords() -> nn.Module:
    net = Net()
    net.shift.register_forward_pre_hook(with_kwargs, with_kwargs=True)
    net.shift.register_forward_hook(after_kwargs, with_kwargs=True)
    return net


@trap()
def always_called() -> nn.Module:
    net = Net()
    net.last.register_forward_hook(doubled, always_call=True)
    net.shift.register_forward_hook(doubled, always_call=True)
    return net


@trap()
def backward_on_leaves() -> nn.Module:
    net = Net()
    net.last.register_full_backward_hook(backward)
    net.last.register_full_backward_pre_hook(before_backward)
    return net


@trap(refused="the backward hooks of shift are not called")
def backward_on_containers() -> nn.Module:
    net = Net()
    net.shift.register_full_backward_hook(backward)
    return net


@trap(refused="the backward hooks of the model are not called")
def backward_on_the_root() -> nn.Module:
    net = Net()
    net.register_full_backward_pre_hook(before_backward)
    return net


class OnTensors(nn.Module):
    """Registers hooks on tensors in forward, which needs gradients."""

    def forward(self, x: Tensor) -> Tensor:
        h = x * 2
        h.register_hook(tripled)  # here
        return h


trap(
    lambda: (torch.randn(2, 3, 8, 8, requires_grad=True),),
    refused="argument of type: <class 'function'>",
)(OnTensors)


def tripled(gradient: Tensor) -> Tensor:
    return gradient * 3


@trap(picklable=False)
def on_parameters() -> nn.Module:
    net = Net()
    net.last.weight.register_hook(tripled)
    return net


class Removing(nn.Module):
    """Its hook removes itself when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.handle = self.conv.register_forward_hook(self.once)

    def once(self, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        module._forward_hooks.clear()
        return output * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


trap()(Removing)


class RemovingContainer(nn.Module):
    """A hook of a module that is traced into removes itself, so that the second run differs."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1))
        self.block.register_forward_hook(self.once)

    def once(self, module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        module._forward_hooks.clear()
        return output * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


trap(refused="block._forward_hooks change")(RemovingContainer)


class CountingHook(nn.Module):
    """A hook that counts, on a module that is kept whole."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.conv.register_forward_hook(self.count)
        self.conv.seen = 0

    @staticmethod
    def count(module: Any, _inputs: Any, output: Tensor) -> Tensor:
        module.seen += 1
        return output * module.seen

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


trap()(CountingHook)


@trap()
def old_spectral_norm() -> nn.Module:
    return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(3, 3, 3)), nn.ReLU(inplace=True))


@trap(picklable=False)
def new_spectral_norm() -> nn.Module:
    return nn.Sequential(parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)), nn.ReLU(inplace=True))


@trap(picklable=False)
def old_weight_norm() -> nn.Module:
    return nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 3, 3)), nn.ReLU(inplace=True))


@trap(picklable=False)
def new_weight_norm() -> nn.Module:
    return nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), nn.ReLU(inplace=True))


@trap(picklable=False)
def orthogonal() -> nn.Module:
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 8)), nn.ReLU(inplace=True))


@trap(picklable=False)
def pruned() -> nn.Module:
    net = Net()
    prune.l1_unstructured(net.last, "weight", amount=0.5)
    prune.random_unstructured(net.block[0], "bias", amount=1)
    return net


class Root(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@trap(picklable=False)
def pruned_root() -> nn.Module:
    return prune.l1_unstructured(Root(), "weight", amount=0.5)


@trap(picklable=False)
def old_spectral_root() -> nn.Module:
    return nn.utils.spectral_norm(Root())


@trap(picklable=False)
def new_spectral_root() -> nn.Module:
    return parametrizations.spectral_norm(Root())


@trap(picklable=False)
def old_weight_root() -> nn.Module:
    return nn.utils.weight_norm(Root())


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


@trap(picklable=False)
def own_parametrization() -> nn.Module:
    model = Root()
    parametrize.register_parametrization(model, "weight", Symmetric())
    return model


class ParametrizedCache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        parametrize.register_parametrization(self.linear, "weight", Symmetric())

    def forward(self, x: Tensor) -> Tensor:
        with parametrize.cached():  # here
            return self.linear(self.linear(x)) + self.linear.weight[0]


trap(refused="parametrize.cached")(ParametrizedCache)
