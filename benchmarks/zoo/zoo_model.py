"""A model of a zoo: how it is built, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.zoo.inputs import draw, find_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


@dataclass(frozen=True, slots=True)
class ZooModel:
    """A model of a zoo, and the shape of its smallest input."""

    zoo: str
    """``torchvision.segmentation``."""
    name: str
    factory: Callable[[], nn.Module]
    shape: tuple[int, ...] = ()
    """The shape of one image, without the batch, for a model that takes nothing else."""
    required_packages: tuple[str, ...] = ()
    """Packages that may be missing."""
    takes: tuple[Any, ...] | dict[str, Any] | None = None
    """The arguments of its forward, by position or by name, as `benchmarks.zoo.inputs` describes them."""

    @property
    def missing_package(self) -> str | None:
        """Return a message about a package that is missing; None if the model can be built."""
        absent = [name for name in self.required_packages if find_spec(name) is None]
        return f"{absent[0]} is not installed: pip install -e '.[zoo]'" if absent else None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the first tensor of one input, without the batch."""
        return self.shape if self.takes is None else find_tensors(self.takes)[0].shape

    @property
    def has_other_size(self) -> bool:
        """Return whether `inputs` gives inputs of another size."""
        return self.takes is not None and any(one.other is not None for one in find_tensors(self.takes))

    def build(self) -> nn.Module:
        """Return the model in eval mode, with random weights that are the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.factory().eval()
            _randomize_constant_weights(model)
        return model

    def inputs(self, size: int, *, other: bool = False) -> tuple[Any, ...] | dict[str, Any]:
        """Return the arguments of its forward for a batch of `size` inputs, the same each time.

        A tuple, or a dictionary of keyword arguments. With `other`, their height, width or length is another one.
        """
        generator = torch.Generator().manual_seed(size)
        if self.takes is None:
            return (torch.randn((size, *self.shape), generator=generator),)
        arguments: tuple[Any, ...] | dict[str, Any] = draw(self.takes, size, generator, other=other)
        return arguments


def _randomize_constant_weights(model: nn.Module) -> None:
    """Randomize weights and statistics that have one value, such as 0 or 1: then every operation changes its input."""
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        constant = value.is_floating_point() and value.numel() > 0 and bool((value == value.flatten()[0]).all())
        if constant and (value.requires_grad or name.endswith(("running_mean", "running_var"))):
            noise = torch.rand(value.shape) if name.endswith("running_var") else torch.randn(value.shape)
            base = 0.5 if name.endswith("running_var") else value.detach().round()
            value.data = base + noise.to(value) * (1 if name.endswith("running_var") else 0.1)
