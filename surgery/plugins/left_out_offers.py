"""Whether a plugin that is left out may offer a name. Its code is parsed and not run."""

from __future__ import annotations

import ast
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import PluginError
from surgery.plugins.discovery import find_plugin_files
from surgery.plugins.file_digests import compute_digests

if TYPE_CHECKING:
    from surgery.plugins.object_kinds import Kind
    from surgery.plugins.plugin import Plugin


def may_offer(plugin: Plugin, kind: Kind, name: str) -> bool:
    """Return whether the files of a plugin implement the hook of a kind, and contain a name in quotes.

    The names of colormaps are compared in any case. False for a plugin without files of its own to read.
    """
    texts: set[str] = set()
    functions: set[str] = set()
    for file in _files(plugin):
        with suppress(OSError, SyntaxError, ValueError, RecursionError, MemoryError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the code
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    functions.add(node.name)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.add(node.value)
                elif isinstance(node, ast.keyword) and node.arg:  # dict(ember=...)
                    texts.add(node.arg)
    if f"surgery_{kind}s" not in functions:
        return False
    return name in texts or (kind == "colormap" and name.lower() in {text.lower() for text in texts})


def _files(plugin: Plugin) -> list[Path]:
    """Return the files that are loaded for a plugin; none for one that is not a file or a folder."""
    with suppress(PluginError, OSError):
        return [Path(file) for file in compute_digests(find_plugin_files(Path(plugin.origin)))]
    return []


def is_known_to_cmap(text: str) -> bool:
    """Return whether a text is a colormap of the library `cmap`, or a color such as "red"."""
    import cmap

    for kind in (cmap.Colormap, cmap.Color):
        with suppress(Exception):  # each kind of text raises an error of its own
            kind(text)
            return True
    return False
