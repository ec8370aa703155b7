"""The SHA-256 of every file that runs when a plugin is loaded."""

from __future__ import annotations

import ast
import hashlib
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

from surgery.errors import PluginError, describe_os_error
from surgery.plugins.module_files import find_module_file, is_reserved

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_FILES = 5_000
"""How many files the code of the plugins at one path may have."""


def compute_digests(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of these plugin files and of all neighbors that they import, by absolute path.

    For an imported package, all its files are included. Raises PluginError for a file that can't be read and for more
    than `MAX_FILES` files.
    """
    digests: dict[str, str] = {}
    pending: list[tuple[Path, Path, Path]] = []
    """Files, each with the folder whose modules it imports by bare names, and with the plugin that loads it."""
    for file in (file.resolve() for file in files):
        if file.name == "__init__.py":
            pending += [(member, file.parent.parent, file.parent) for member in _package_files(file.parent)]
        else:
            pending.append((file, file.parent, file))
    while pending:
        file, folder, plugin = pending.pop()
        file = file.resolve()
        if str(file) in digests:
            continue
        try:
            content = file.read_bytes()
        except OSError as error:
            raise PluginError(f"can't read {file}: {describe_os_error(error)}") from error
        digests[str(file)] = hashlib.sha256(content).hexdigest()
        if len(digests) > MAX_FILES:
            raise PluginError(
                f"plugin {plugin} loads more than {MAX_FILES:,} files, too many to check for trust; "
                "pass it with --plugin"
            )
        if file.suffix == ".py":
            pending += [(neighbor, folder, plugin) for neighbor in _imported_neighbors(content, file, folder)]
    return digests


def _imported_neighbors(source: bytes, file: Path, folder: Path) -> Iterator[Path]:
    """Yield the modules of `folder` that the import statements of a file name, and all files of the packages."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # loading the file raises it again
        return
    for node in ast.walk(tree):
        home, names = folder, []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            if node.level:
                home = file.parents[min(node.level, len(file.parents)) - 1]
        for top in {name.partition(".")[0] for name in names}:
            found = find_module_file(home, top) if home != folder or not is_reserved(top) else None
            if found is None or found == file:
                continue
            if found.is_dir() or found.name == "__init__.py":
                yield from _package_files(found if found.is_dir() else found.parent)
            else:
                yield found


def _package_files(folder: Path) -> list[Path]:
    """Return the files of a package that Python can import, at most one more than `MAX_FILES`."""
    files: list[Path] = []
    for file in folder.rglob("*"):
        is_hidden = any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(folder).parts)
        if not is_hidden and file.name.endswith((".py", *EXTENSION_SUFFIXES)) and file.is_file():
            files.append(file)
        if len(files) > MAX_FILES:
            break
    return files
