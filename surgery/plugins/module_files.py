"""Which file a module of a plugin's folder is, and which bare names mean such a module."""

from __future__ import annotations

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def find_module_file(folder: Path, name: str) -> Path | None:
    """Return the file of a module in a folder, or a subfolder without ``__init__.py``; None if there is neither."""
    files = [folder / name / "__init__.py", *(folder / f"{name}{suffix}" for suffix in (*EXTENSION_SUFFIXES, ".py"))]
    found = next((file for file in files if file.is_file()), None)
    return found or (folder / name if (folder / name).is_dir() else None)


def is_reserved(name: str) -> bool:
    """Return whether a name is that of Python's standard library or of this project, never that of a neighbor."""
    return name == "surgery" or name in sys.stdlib_module_names


def is_neighbor(folder: Path, name: str, file: Path) -> bool:
    """Return whether `file` means a module of its own folder by a bare name, and not an installed module."""
    top = name.partition(".")[0]
    found = None if is_reserved(top) else find_module_file(folder, top)
    if found is None:
        return False
    # A folder of data may be called like a library, and a plugin like the library that it is for.
    is_ambiguous = found.is_dir() or found == file.resolve()
    return not is_ambiguous or not _is_installed(top)


def _is_installed(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):
        return False
