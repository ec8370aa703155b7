"""Functions with a gradient of their own (`torch.autograd.Function`) as functions of a graph, called by name."""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from typing import Any

import torch


def apply(name: str, *args: Any) -> Any:
    """``name.apply(*args)`` of the function class called ``module:Class``."""
    return resolve_name(name).apply(*args)


def name_of(function: type[torch.autograd.Function]) -> str:
    """Under which name `apply` finds a class. Raises TypeError where it has none."""
    name = f"{function.__module__}:{function.__qualname__}"
    if (
        "<" in name
        or getattr(sys.modules.get(function.__module__), function.__qualname__.partition(".")[0], None) is None
    ):
        raise TypeError(f"{function.__qualname__} is a function with a gradient of its own, in no module by that name")
    return name
