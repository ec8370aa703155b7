"""Small nasty modules, one for each trap. Each is traced as it is, bit for bit, or refused with its line.

A trap registers itself with `@trap`. One that has to be refused says why, and the line that the refusal has to name
ends in ``# here``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Callable[[], tuple[Any, ...]]


@dataclass(frozen=True)
class Trap:
    make: Callable[[], nn.Module]
    inputs: Inputs
    refused: str
    """What the refusal says; empty where the model has to be traced as it is."""
    picklable: bool
    """False where torch itself does not copy or write the model whole."""

    @property
    def name(self) -> str:
        return f"{self.make.__module__.rpartition('.')[2]}-{self.make.__name__}"


TRAPS: list[Trap] = []


def images() -> tuple[Tensor]:
    return (torch.randn(2, 3, 8, 8),)


def trap(
    inputs: Inputs = images,
    *,
    refused: str = "",
    picklable: bool = True,
) -> Callable[[Any], Any]:
    """Register a class of modules, or a function that makes one."""

    def register(make: Any) -> Any:
        TRAPS.append(Trap(make, inputs, refused, picklable))
        return make

    return register
