"""Blocks such as ``with torch.no_grad():`` as functions, for graphs: a graph has no blocks.

Each entering function returns what `leave` takes. A block that an error, or a graph cut short, leaves open is closed at
the end of `closing`, and gradients are on or off as before it.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Open(local):
    def __init__(self) -> None:
        self.contexts: list[Any] = []


_open = _Open()


def enter_grad(enabled: bool) -> bool:
    """``with torch.set_grad_enabled(enabled):``, the blocks that are made of it, and a mere call. Returns what was."""
    before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(enabled)  # noqa: SLF001
    return before


def leave_grad(before: bool) -> None:
    """The end of a block of `enter_grad`."""
    torch._C._set_grad_enabled(before)  # noqa: SLF001


def enter_inference(enabled: bool) -> Any:
    """``with torch.inference_mode(enabled):``."""
    return _enter(torch.inference_mode(enabled))


def enter_autocast(device_type: str, dtype: torch.dtype, enabled: bool, cache_enabled: bool) -> Any:
    """``with torch.autocast(...):``."""
    return _enter(torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cache_enabled))


def leave(context: Any) -> None:
    """The end of a block."""
    if context in _open.contexts:
        _open.contexts.remove(context)
        context.__exit__(None, None, None)


@contextmanager
def closing() -> Iterator[None]:
    """Close the blocks that are entered within and not left."""
    depth, enabled = len(_open.contexts), torch.is_grad_enabled()
    try:
        yield
    finally:
        while len(_open.contexts) > depth:
            _open.contexts.pop().__exit__(None, None, None)
        torch._C._set_grad_enabled(enabled)  # noqa: SLF001


def _enter(context: Any) -> Any:
    context.__enter__()
    _open.contexts.append(context)
    return context
