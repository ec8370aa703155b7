"""The C allocator, told that this process gives large blocks back only to take them again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of the GNU C library
_MOST = 1 << 30


def keep_freed_memory() -> bool:
    """Have freed memory kept for what is allocated next, for the rest of this process. Returns whether that is so.

    The GNU C library gives blocks of more than 32 MiB back to the system at once, and takes them anew, page by page,
    for the next activation of a batch: on the CPU a sixth of the time of a forward. Elsewhere this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, _MOST) == 1 for name in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
