"""Settings for a process that does nothing but one command. A library shouldn't make them for its callers."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

M_ARENA_MAX, M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -8, -1, -3
"""Parameters of glibc's ``mallopt``, from malloc.h: how many arenas there are, and what is returned to the system."""
_KEPT = 1 << 30
"""Bytes of freed memory that are kept for the next operation."""


def tune_process(*, keep_memory: bool = False) -> None:
    """Set this process up for speed. To be called before torch is imported.

    With `keep_memory`, what an operation frees is kept for the next one. It saves a third of the time of a command that
    runs the same part of a model again and again, and that limits its memory itself.
    """
    # Large pages for large tensors. The memory of a batch is returned to the system after each operation and taken
    # again for the next one, page by page.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Idle threads of torch would spin otherwise, and take time from the threads that write.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # With the usual thresholds, the garbage collector goes through all objects of torch dozens of times.
    gc.set_threshold(50_000, 10, 10)
    if "MALLOC_ARENA_MAX" not in os.environ:
        # Memory that a thread frees in an arena of its own can't be used by other threads.
        _set_malloc_option(M_ARENA_MAX, 1)
    if keep_memory:
        _set_malloc_option(M_MMAP_THRESHOLD, _KEPT)
        _set_malloc_option(M_TRIM_THRESHOLD, _KEPT)


def _set_malloc_option(option: int, value: int) -> None:
    """Set an option of glibc's allocator of memory; do nothing with another C library."""
    import ctypes

    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(option, value)
