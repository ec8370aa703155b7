"""The names of files by their paths, as `pathlib` has them, without a path object for each of a hundred thousand."""

from __future__ import annotations

import os
from pathlib import PurePath

_IS_PLAIN = os.sep == "/"
"""Whether the last part of a path is what follows its last slash."""


def last_name(path: str) -> str:
    """Return ``PurePath(path).name``."""
    name = path.rpartition("/")[2]
    return name if _IS_PLAIN and name not in ("", ".") else PurePath(path).name


def split_suffix(name: str) -> tuple[str, str]:
    """Return the stem and the suffix of ``PurePath(name)``."""
    stem, dot, suffix = name.partition(".")
    if _IS_PLAIN and stem and suffix and "." not in suffix and "/" not in name:
        return stem, dot + suffix
    path = PurePath(name)
    return path.stem, path.suffix
