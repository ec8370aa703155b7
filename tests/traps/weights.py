"""Ways to reach a parameter or buffer other than an attribute of its module."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.traps import trap


def doubled(values: Tensor) -> Tensor:
    return values * 2


class Weighted(nn.Module):
    """Multiplies the output of a convolution by a weight that it reaches in the given way."""

    def __init__(self, weight: Callable[[Any], Any]) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 1, bias=False)
        self.register_buffer("mean", torch.rand(4))
        self.more = nn.ParameterList([nn.Parameter(torch.rand(4))])
        self.view = self.get_buffer("mean")[:1]
        self.weight = weight
        self.requires_grad_(False)  # what is computed from them is a constant, and may be frozen

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * torch.as_tensor(self.weight(self)).reshape(1, -1, 1, 1)


def first(module: nn.Module) -> Tensor:
    return next(module.parameters())


WAYS: dict[str, Callable[[Any], Any]] = {
    "parameters": lambda m: list(m.fc.parameters())[0] * 2,
    "an_iterator": lambda m: first(m.fc).exp(),
    "named_parameters": lambda m: dict(m.named_parameters())["fc.weight"].abs(),
    "a_state_dict": lambda m: m.state_dict()["fc.weight"].abs(),
    "getattr": lambda m: getattr(m.fc, "we" + "ight").abs(),
    "_parameters": lambda m: m.fc._parameters["weight"].abs(),
    "data": lambda m: first(m.fc).data.abs(),
    "detach": lambda m: first(m.fc).detach() + 1,
    "a_vector": lambda m: nn.utils.parameters_to_vector(m.fc.parameters()),
    "buffers": lambda m: list(m.buffers())[0] * 3,
    "_buffers": lambda m: m._buffers["mean"] * 3,
    "get_buffer": lambda m: m.get_buffer("mean") + 1,
    "a_list": lambda m: list(m.more)[0] + 1,
    "an_index": lambda m: first(m.fc)[0] * 2,
    "the_left_side": lambda m: 2 / first(m.fc),
    "functional_call": lambda m: torch.func.functional_call(m.fc, dict(m.fc.named_parameters()), (torch.ones(4),)),
    "item": lambda m: first(m.fc).flatten()[0].item(),
    "storage": lambda m: first(m.fc).untyped_storage()[0] + 1.0,
    "typed_storage": lambda m: first(m.fc).storage()[0],
    "a_sum_of_pythons": lambda m: sum(p.sum() for p in m.fc.parameters()),
    "a_stack": lambda m: torch.stack([first(m.fc), first(m.fc)]).sum(0),
}
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "get_parameter": lambda m: m.get_parameter("fc.weight").abs(),
    "tensor": lambda m: torch.Tensor(first(m.fc)),
    "float_tensor": lambda m: torch.FloatTensor(first(m.fc)),
    "a_scripted_function": lambda m: torch.jit.script(doubled)(first(m.fc)),
    "a_subclass": lambda m: first(m.fc).as_subclass(Tensor) * 2,
    "vmap": lambda m: torch.vmap(torch.sum)(first(m.fc)),
    "vmap_of_a_buffer": lambda m: torch.vmap(torch.exp)(m.mean),
    "grad": lambda m: torch.func.grad(lambda w: (w**2).sum())(first(m.fc)),
    "text": lambda m: float(repr(m.mean)[8:14]),
    "text_of_a_parameter": lambda m: float(str(first(m.fc).flatten()[0].item())),
    "format": lambda m: float(f"{m.mean[0]:.4f}"),
    "numpy_array": lambda m: float(np.asarray(first(m.fc)).sum()),
    "dlpack": lambda m: torch.from_dlpack(first(m.fc)) * 2,
    "iteration": lambda m: sum(float(value) for value in m.mean),
    "unpacking": lambda m: [*m.mean][0] * 2,
    "a_view_in_an_attribute": lambda m: m.view * 2,
    "bytes": lambda m: float(first(m.fc).numpy().tobytes()[0] + 1),
    "numpy_of_a_state_dict": lambda m: float(m.state_dict()["mean"].numpy().sum()),
    "max_of_pythons": lambda m: max(m.mean.tolist()),
    "float": lambda m: float(first(m.fc).sum()),
    "tolist": lambda m: sum(first(m.fc).flatten().tolist()),
    "a_branch": lambda m: 2.0 if first(m.fc).sum() > 0 else 1.0,
    "numpy": lambda m: float(first(m.fc).numpy().sum()),
    "a_number_of_a_buffer": lambda m: float(m.mean.sum()),
    "a_list_of_a_buffer": lambda m: sum(m.mean.tolist()),
}


def weighted(name: str, way: Callable[[Any], Any]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        return Weighted(way)

    make.__name__ = make.__qualname__ = f"weight_by_{name}"
    return make


for _name, _way in WAYS.items():
    trap(picklable=False)(weighted(_name, _way))  # a lambda is not
for _name, _way in NUMBERS.items():
    trap(refused="weights.py:")(weighted(_name, _way))


class Closing(nn.Module):
    """A function that has closed over the model, and reads its buffer and its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.register_buffer("mean", torch.rand(4))
        self.weight = nn.Parameter(torch.rand(4))

    def scaled(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("mean").reshape(1, -1, 1, 1) + self.weight.reshape(1, -1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def hook_of_a_leaf() -> nn.Module:
    net = Closing()
    net.conv.register_forward_hook(lambda _module, _inputs, output: net.scaled(output))
    return net


def hook_of_the_model() -> nn.Module:
    net = Closing()
    net.register_forward_hook(lambda _module, _inputs, output: net.scaled(output))
    return net


def hook_with_a_default() -> nn.Module:
    net = Closing()

    def hook(_module: nn.Module, _inputs: Any, output: Tensor, model: Closing = net) -> Tensor:
        return model.scaled(output)

    net.conv.register_forward_hook(hook)
    return net


def scale(model: Closing, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    return model.scaled(output)


def partial_hook() -> nn.Module:
    net = Closing()
    net.conv.register_forward_hook(functools.partial(scale, net))
    return net


def hook_in_a_hook() -> nn.Module:
    net = Closing()

    def inner(output: Tensor) -> Tensor:
        return net.scaled(output)

    net.conv.register_forward_hook(lambda _module, _inputs, output: inner(output))
    return net


class LambdaAttribute(Closing):
    def __init__(self) -> None:
        super().__init__()
        self.scale = lambda x: self.scaled(x) + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(self.conv(x))


for _make in (hook_of_a_leaf, hook_of_the_model, hook_with_a_default, partial_hook, hook_in_a_hook, LambdaAttribute):
    trap(picklable=False)(_make)
