"""Functions that stand in graphs: those with a gradient of their own, by name, and checks of settings."""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from typing import Any

import torch

from surgery.errors import TraceError


def apply(name: str, *args: Any) -> Any:
    """``name.apply(*args)`` of the function class called ``module:Class``."""
    return resolve_name(name).apply(*args)


def check_setting(value: Any, traced: Any, name: str) -> None:
    """Hold a setting, such as a flag, against the one that a graph was traced with: it is part of the graph."""
    if type(value) is not type(traced) or value != traced:
        raise TraceError(f"this graph was traced with {name}={traced!r}, not {value!r}; trace the model with that")


def import_path(function: type[torch.autograd.Function]) -> str:
    """Under which name `apply` finds a class. Raises TypeError where it has none."""
    name = f"{function.__module__}:{function.__qualname__}"
    if (
        "<" in name
        or getattr(sys.modules.get(function.__module__), function.__qualname__.partition(".")[0], None) is None
    ):
        raise TypeError(f"{function.__qualname__} is a function with a gradient of its own, in no module by that name")
    return name
