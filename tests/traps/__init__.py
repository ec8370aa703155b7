"""Small modules that are hard to trace. Each is traced exactly, bit for bit, or refused with its line.

A class or a function with the decorator `@trap` is a trap. If it has to be refused, `refused` is a part of the message,
and the line that the message has to name ends in ``# here``.
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
    """A part of the error message; empty for a model that has to be traced."""
    picklable: bool
    """False for a model that torch itself can't copy or write to a file."""

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
