"""Optional attributes of stages, such as those that save passes over the values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


def declared_attribute(stage: object, name: str) -> Any:
    """Return an optional attribute of a stage, or None if the stage does not declare it for its own `__call__`.

    A subclass that overrides ``__call__`` does not inherit the attribute, since the attribute describes what the
    parent's ``__call__`` does.
    """
    kind = type(stage)
    is_declared = name in getattr(stage, "__dict__", ()) or _declares(kind, name)  # type: ignore[arg-type]
    return getattr(stage, name) if is_declared else None


@lru_cache(maxsize=256)
def _declares(kind: type, name: str) -> bool:
    """Whether the most derived class that defines `name` or ``__call__`` defines `name`."""
    owner = next((base for base in kind.__mro__ if name in vars(base) or "__call__" in vars(base)), None)
    return owner is not None and name in vars(owner)
