"""The ways to a parameter or buffer that are no attribute of a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.traps import trap


class Weighted(nn.Module):
    """Multiplies what a convolution gives by a weight that it reaches in some way."""

    def __init__(self, weight: Callable[[Any], Any]) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 1, bias=False)
        self.register_buffer("mean", torch.rand(4))
        self.more = nn.ParameterList([nn.Parameter(torch.rand(4))])
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
    "get_parameter": lambda m: m.get_parameter("fc.weight").abs(),
    "data": lambda m: first(m.fc).data.abs(),
    "detach": lambda m: first(m.fc).detach() + 1,
    "a_vector": lambda m: nn.utils.parameters_to_vector(m.fc.parameters()),
    "buffers": lambda m: list(m.buffers())[0] * 3,
    "_buffers": lambda m: m._buffers["mean"] * 3,
    "get_buffer": lambda m: m.get_buffer("mean") + 1,
    "a_list": lambda m: list(m.more)[0] + 1,
    "an_index": lambda m: first(m.fc)[0] * 2,
    "the_left_side": lambda m: 2 / first(m.fc),
    "a_stack": lambda m: torch.stack([first(m.fc), first(m.fc)]).sum(0),
}
NUMBERS: dict[str, Callable[[Any], Any]] = {
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
