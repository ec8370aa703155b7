"""Functions that begin and end a block such as ``with torch.no_grad():`` in a graph, which has no blocks.

The function that begins a block returns the argument for the function that ends it. If an error, or the end of a graph
that was cut, leaves a block open, `closing` ends it and restores the gradient mode.
"""

from __future__ import annotations

from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


class _OpenBlocks(local):
    def __init__(self) -> None:
        self.contexts: list[Any] = []


_open = _OpenBlocks()


def enter_grad(enabled: bool) -> bool:
    """Begin ``torch.set_grad_enabled(enabled)`` (also for `no_grad` and `enable_grad`); return the former mode."""
    before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(enabled)  # noqa: SLF001
    return before


def leave_grad(before: bool) -> None:
    """End a block of `enter_grad` by restoring the former mode."""
    torch._C._set_grad_enabled(before)  # noqa: SLF001


def enter_inference(enabled: bool) -> Any:
    """Begin a block of ``torch.inference_mode(enabled)``; return its context."""
    return _enter(torch.inference_mode(enabled))


def enter_autocast(device_type: str, dtype: torch.dtype, enabled: bool, cache_enabled: bool) -> Any:
    """Begin a block of ``torch.autocast(...)``; return its context."""
    return _enter(torch.autocast(device_type, dtype=dtype, enabled=enabled, cache_enabled=cache_enabled))


def leave(context: Any) -> None:
    """End a block of `enter_inference` or `enter_autocast`."""
    if context in _open.contexts:
        _open.contexts.remove(context)
        context.__exit__(None, None, None)


@contextmanager
def closing() -> Iterator[None]:
    """Return a context manager that ends all blocks begun inside it, and restores the gradient mode."""
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
