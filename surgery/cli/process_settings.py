"""Settings for a process that does nothing but one command. A library shouldn't make them for its callers."""

from __future__ import annotations

import gc
import os
from contextlib import suppress

M_ARENA_MAX = -8
"""The parameter of glibc's ``mallopt`` that limits the number of arenas, from malloc.h."""


def tune_process() -> None:
    """Set this process up for speed. To be called before torch is imported."""
    # Large pages for large tensors. The memory of a batch is returned to the system after each operation and taken
    # again for the next one, page by page.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # Idle threads of torch would spin otherwise, and take time from the threads that write.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # With the usual thresholds, the garbage collector goes through all objects of torch dozens of times.
    gc.set_threshold(50_000, 10, 10)
    if "MALLOC_ARENA_MAX" not in os.environ:
        _use_one_malloc_arena()


def _use_one_malloc_arena() -> None:
    """Have glibc use one arena: memory that a thread frees in an arena of its own can't be used by other threads."""
    import ctypes

    with suppress(AttributeError, OSError, TypeError):  # the C library is not glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
