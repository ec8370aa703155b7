"""See inside a trained model: trace it, select operations, insert extractors, draw what passes.

Every name here is imported when it is first used, so that a plugin or ``surgery --help`` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surgery.errors import SurgeryError as SurgeryError

_HOME = {
    "SurgeryError": "errors",
}

__all__ = sorted(_HOME)  # noqa: PLE0605
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'surgery' has no attribute {name!r}")
    value = getattr(import_module(f"surgery.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
