"""Since when the machine is running, which a power cut changes."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def machine_start() -> str:
    """Return a text that is the same as long as the machine runs.

    On Linux it is the identity of its start; elsewhere the time of it to ten minutes, which changes too if the clock
    was set or the machine has slept.
    """
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return str(round((time.time() - time.monotonic()) / 600))
