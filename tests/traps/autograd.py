"""Gradients, precision, and blocks around operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from tests.traps import trap


class Convs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)


@trap()
class NoGrad(Convs):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = self.one(x)
            with torch.enable_grad():
                h = h * self.two(x)
        return self.two(h) + self.frozen(x)

    @torch.no_grad()
    def frozen(self, x: Tensor) -> Tensor:
        return self.one(x)


@trap()
class Decorated(Convs):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x).relu_())


@trap()
class Inference(Convs):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            h = self.one(x.detach())
        return h.clone() + self.two(x)


@trap()
class InferenceDecorated(Convs):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


@trap()
class SetGrad(Convs):
    def forward(self, x: Tensor) -> Tensor:
        previous = torch.is_grad_enabled()
        torch.set_grad_enabled(False)
        h = self.one(x)
        torch.set_grad_enabled(previous)
        with torch.set_grad_enabled(self.training):
            h = h + self.two(x)
        return self.one(x) + h


@trap()
class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = self.conv(x)
            with torch.autocast("cpu", enabled=False):
                h = self.conv(h.float())
        with torch.amp.autocast_mode.autocast("cpu", dtype=torch.float16):
            g = self.conv(x[..., :6, :6])
        return self.conv(x[..., :6, :6]) + h + g


class AutocastDecorated(Convs):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x)) @ x.transpose(2, 3)


trap()(AutocastDecorated)


class Square(torch.autograd.Function):
    """A custom function whose gradient is not that of its forward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * x * 100


@trap()
class OwnFunction(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Square.apply(x) + 1


class Straight(nn.Module):
    """Straight-through estimator: the value of one term, the gradient of another."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x.round() - x).detach()


trap()(Straight)


@trap()
class Checkpointed(Convs):
    def forward(self, x: Tensor) -> Tensor:
        h = checkpoint(self.one, x, use_reentrant=False)
        return self.two(h)


@trap()
class CheckpointedDrop(Convs):
    def step(self, x: Tensor) -> Tensor:
        return F.dropout(self.one(x).relu_(), 0.5, self.training)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(checkpoint(self.step, x, use_reentrant=True))


@trap()
class Stacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint_sequential(self.layers, 2, x, use_reentrant=False)


@trap()
class RequiresGrad(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = x.detach()
        h.requires_grad_(True)
        g = h * 2
        g = g + 0
        return g.detach() * 3 + x


@trap()
class GradInside(nn.Module):
    """Computes a gradient in forward."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            h = x.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(h.square().sum(), h)
        return gradient + x


@trap(refused="Got in_dim=0")
class Vmapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.vmap(lambda row: row * 2 + row.sum())(x)  # here


@trap(refused="must be Tensor")
class Jacobian(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.func.grad(lambda h: (h * h).sum())(x)  # here


@trap()
class SavedTensors(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            h = x.square()
        return h + 1


@trap()
class Profiled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with torch.profiler.record_function("mine"):
            return x.square()


@trap()
class DefaultDtype(nn.Module):
    """Changes the default dtype."""

    def forward(self, x: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        h = torch.ones(8)
        torch.set_default_dtype(torch.float32)
        return x * h


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Rounded(torch.autograd.Function):
    """A custom function with a separate `setup_context`."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


reverse = Reverse.apply
IN_A_TABLE = {"rounded": Rounded.apply}


class Named(nn.Module):
    of_the_class = Reverse.apply
    static = staticmethod(Rounded.apply)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.own = Reverse.apply


@trap()
class GlobalAlias(Named):
    def forward(self, x: Tensor) -> Tensor:
        return reverse(self.conv(x))


@trap(picklable=False)
class AttributeAlias(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.own(self.conv(x))


@trap()
class ClassAlias(Named):
    def forward(self, x: Tensor) -> Tensor:
        return type(self).of_the_class(self.static(self.conv(x)))  # type: ignore[call-arg]


@trap()
class LocalAlias(Named):
    def forward(self, x: Tensor) -> Tensor:
        apply = Rounded.apply
        return apply(self.conv(x))


@trap()
class TableAlias(Named):
    def forward(self, x: Tensor) -> Tensor:
        return IN_A_TABLE["rounded"](self.conv(x))


def closed_over(function: Any) -> Any:
    def call(x: Tensor) -> Any:
        return function(x)

    return call


@trap(picklable=False)
class ClosureAlias(Named):
    def __init__(self) -> None:
        super().__init__()
        self.function = closed_over(Reverse.apply)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))
