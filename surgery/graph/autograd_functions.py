"""Functions that are called in graphs: `torch.autograd.Function` classes by name, and checks of settings."""

from __future__ import annotations

import sys
from pkgutil import resolve_name
from typing import Any

import torch

from surgery.errors import TraceError


def apply(name: str, *args: Any) -> Any:
    """Call ``Class.apply(*args)`` of the autograd function with the import path ``module:Class``."""
    return resolve_name(name).apply(*args)


def check_setting(value: Any, traced: Any, name: str) -> None:
    """Raise TraceError if a setting, such as a flag, differs from the value that the graph was traced with."""
    if type(value) is not type(traced) or value != traced:
        raise TraceError(f"this graph was traced with {name}={traced!r}, not {value!r}; trace the model with that")


def import_path(function: type[torch.autograd.Function]) -> str:
    """Return the import path by which `apply` finds a class. Raises TypeError if it is not at the top of a module."""
    name = f"{function.__module__}:{function.__qualname__}"
    top = function.__qualname__.partition(".")[0]
    if "<" in name or getattr(sys.modules.get(function.__module__), top, None) is None:
        raise TypeError(f"{function.__qualname__} is a function with a gradient of its own, in no module by that name")
    return name
