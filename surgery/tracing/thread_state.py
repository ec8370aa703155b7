"""Restores the state that torch and Python have for each thread, after a trace that succeeded or failed."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import run_uninterrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

_AUTOCAST_DEVICES = ("cpu", "cuda")


@contextmanager
def restore_thread_state() -> Iterator[None]:
    """After the block, restore this thread's function modes, trace functions, gradient mode and autocast.

    An error or an interrupt while a model is traced may come between the two steps of a block's end, so that the block
    itself does not restore them.
    """
    depth = torch._C._len_torch_function_stack()  # noqa: SLF001
    trace_function, profile_function, grad_enabled = sys.gettrace(), sys.getprofile(), torch.is_grad_enabled()
    autocast = _autocast_state()

    def restore() -> None:
        while torch._C._len_torch_function_stack() > depth:  # noqa: SLF001
            torch._C._pop_torch_function_stack()  # noqa: SLF001
        torch._C._set_grad_enabled(grad_enabled)  # noqa: SLF001
        if sys.gettrace() is not trace_function:
            sys.settrace(trace_function)
        if sys.getprofile() is not profile_function:
            sys.setprofile(profile_function)
        if _autocast_state() != autocast:
            _set_autocast_state(autocast)

    try:
        yield
    finally:
        run_uninterrupted(restore)


def _autocast_state() -> tuple[Any, ...]:
    """Return how many blocks of autocast are open in this thread, and what they have set."""
    depth = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    devices = [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCAST_DEVICES]
    return depth, torch.is_autocast_cache_enabled(), *devices


def _set_autocast_state(state: tuple[Any, ...]) -> None:
    depth, is_caching, *devices = state
    while _autocast_state()[0] > depth:
        torch.autocast_decrement_nesting()
    torch.set_autocast_cache_enabled(is_caching)
    for kind, (enabled, dtype) in zip(_AUTOCAST_DEVICES, devices, strict=True):
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)
    torch.clear_autocast_cache()
