"""Files with the names of other files, to which a line is added before each of those appears."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
"""How such a file is opened."""


def append_name(file: int, name: str) -> None:
    """Append a name to an open file. A line that was cut, since the disk was full, does not spoil the next one."""
    entry = f'\n"{name}"'.encode()
    if os.write(file, entry) < len(entry):
        raise OSError(errno.ENOSPC, "No space left on device")


def read_names(path: Path) -> Iterator[str]:
    """Yield the names in a file that `append_name` has written."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with suppress(ValueError):  # a line that was cut when its process was killed
                if isinstance(name := json.loads(line), str):
                    yield name
