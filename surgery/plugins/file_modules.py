"""Files of plugins as modules: each folder is a package of its own, from which its files import their neighbors.

A file ``colors/ember.py`` becomes the module ``surgery_plugin_colors.ember``. What lies beside it is imported by its
bare name or relatively, at the top of the file or in a function: ``import _shades`` and ``from . import _shades`` are
``surgery_plugin_colors._shades``, so that neighbors of one name in two folders are two modules. Names of Python's own
library and of `surgery` are never taken for neighbors. Modules are compiled from their source each time: a file of
bytecode that lies beside it is not used.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import PluginError
from surgery.text import FILE_PLUGIN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import CodeType, ModuleType

_MOST = 5_000
"""Files that the code of one plugin may consist of."""


def load_file(file: Path, trusted: Mapping[str, str] | None = None) -> ModuleType:
    """Run a plugin's file, or the ``__init__.py`` of its package, anew. Raises whatever its code raises.

    With `trusted`, a mapping of paths to digests as `compute_digests` returns it, a file that is not in it raises
    ImportError.
    """
    file = file.resolve()
    module = file.parent if file.name == "__init__.py" else file
    root = _root_of(module.parent)
    name = f"{root}.{_identifier(module.name if module is not file else file.stem)}"
    _FILES[name] = file
    known = _TRUSTED.get(root, {})
    _TRUSTED[root] = None if trusted is None or known is None else {**known, **trusted}
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    for loaded in [loaded for loaded in sys.modules if loaded.startswith(f"{root}.")]:
        if loaded == name or loaded.startswith(f"{name}.") or _has_changed(loaded):
            del sys.modules[loaded]
    return import_module(name)


def compute_digests(files: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file that runs when these plugin files are loaded: themselves, and neighbors they import.

    Of a package that is imported, all of its files count. Raises PluginError for a file that can't be read.
    """
    found: dict[str, str] = {}
    waiting: list[tuple[Path, Path]] = []
    """Files, and the folder whose neighbors each imports by bare names."""
    for file in (file.resolve() for file in files):
        if file.name == "__init__.py":
            waiting += [(one, file.parent.parent) for one in _whole(file.parent)]
        else:
            waiting.append((file, file.parent))
    while waiting:
        file, folder = waiting.pop()
        file = file.resolve()
        if str(file) in found:
            continue
        try:
            content = file.read_bytes()
        except OSError as error:
            raise PluginError(f"can't read {file}: {(error.strerror or str(error)).lower()}") from error
        found[str(file)] = hashlib.sha256(content).hexdigest()
        if len(found) > _MOST:
            raise PluginError(f"the code of the plugin {file} is more than {_MOST:,} files; name it with --plugin")
        if file.suffix == ".py":
            waiting += [(one, folder) for one in _imported(content, file, folder)]
    return found


_FOLDERS: dict[str, Path] = {}
_FILES: dict[str, Path] = {}
"""The modules that are plugins themselves, whose files need not be called as modules are."""
_TRUSTED: dict[str, Mapping[str, str] | None] = {}
"""What may run of a folder; None for all of it."""
_DIGESTS: dict[str, tuple[Path, str]] = {}
"""The file of each module that was loaded, and the digest of what was in it."""


def _root_of(folder: Path) -> str:
    """The name of the package that a folder is."""
    name, number = f"{FILE_PLUGIN_PREFIX}{_identifier(folder.name)}", 1
    while _FOLDERS.setdefault(name, folder) != folder:
        number += 1
        name = f"{FILE_PLUGIN_PREFIX}{_identifier(folder.name)}_{number}"
    return name


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name) or "folder"


def _has_changed(module: str) -> bool:
    file, digest = _DIGESTS.get(module, (None, ""))
    if file is None:
        return False
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() != digest
    except OSError:
        return True


class _Finder(MetaPathFinder):
    """Finds the modules of plugins' folders, and nothing else."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:  # noqa: ARG002
        root, dot, rest = fullname.partition(".")
        if root not in _FOLDERS:
            return None
        if not dot:
            return _folder_spec(fullname, _FOLDERS[root])
        for place in path or ():
            file = _FILES.get(fullname) or _module_file(Path(place), rest.rpartition(".")[2])
            if file is None:
                continue
            if file.is_dir():
                return _folder_spec(fullname, file)
            if file.name.endswith(tuple(EXTENSION_SUFFIXES)):
                _check_trusted(fullname, file, file.read_bytes())
                return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))
            inside = [str(file.parent)] if file.name == "__init__.py" else None
            loader = _Source(fullname, str(file))
            return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)
        raise ModuleNotFoundError(f"No module named {rest!r} beside the plugin", name=fullname)


class _Source(SourceFileLoader):
    """Compiles a file from its source, in which neighbors that are named barely are named relatively."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        _check_trusted(fullname, Path(self.path), source)
        tree = _Relative(fullname, Path(self.path)).visit(ast.parse(source, self.path))
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)
        return code


def _check_trusted(fullname: str, file: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    trusted = _TRUSTED.get(fullname.partition(".")[0])
    if trusted is not None and trusted.get(str(file.resolve())) != digest:
        raise ImportError(f"{file} is not among the files that were trusted; look at it, then `surgery plugins trust`")
    _DIGESTS[fullname] = (file, digest)


def _folder_spec(name: str, folder: Path) -> ModuleSpec:
    """Of a package without an ``__init__.py``."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


def _module_file(folder: Path, name: str) -> Path | None:
    """The file, or the folder without ``__init__.py``, that a module of this name in a folder is."""
    files = [folder / name / "__init__.py", *(folder / f"{name}{suffix}" for suffix in (*EXTENSION_SUFFIXES, ".py"))]
    found = next((file for file in files if file.is_file()), None)
    return found or (folder / name if (folder / name).is_dir() else None)


class _Relative(ast.NodeTransformer):
    """Writes imports of neighbors relatively."""

    def __init__(self, module: str, file: Path) -> None:
        self.file = file
        self.folder = _FOLDERS[module.partition(".")[0]]
        self.dots = module.count(".") + (file.name == "__init__.py")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level == 0 and node.module and _is_neighbor(self.folder, node.module, self.file):
            node.level = self.dots
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.AST]:
        ours = [alias for alias in node.names if _is_neighbor(self.folder, alias.name, self.file)]
        if not ours:
            return node
        node.names = [alias for alias in node.names if alias not in ours]
        made: list[ast.AST] = [node] if node.names else []
        for alias in ours:
            within, _, last = alias.name.rpartition(".")
            top = alias.name.partition(".")[0]
            if alias.asname or not within:
                made.append(self._from(within, last, alias.asname, node))
            else:  # which binds the first name alone, and imports all of them
                made += [self._from(within, last, f"_{last}_of_{top}", node), self._from("", top, None, node)]
        return made

    def _from(self, module: str, name: str, alias: str | None, node: ast.AST) -> ast.AST:
        made = ast.ImportFrom(module or None, [ast.alias(name, alias)], self.dots)
        return ast.copy_location(made, node)


def _is_neighbor(folder: Path, name: str, file: Path) -> bool:
    """Whether a bare name means what lies beside a plugin's file, and not what is installed."""
    top = name.partition(".")[0]
    there = None if _is_reserved(top) else _module_file(folder, top)
    if there is None:
        return False
    # A folder of data may be called like a library, and a plugin like the library that it is for.
    return not (there.is_dir() or there == file.resolve()) or not _is_installed(top)


def _is_installed(name: str) -> bool:
    try:
        return name in sys.modules or find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _imported(source: bytes, file: Path, folder: Path) -> Iterator[Path]:
    """The neighbors in `folder` that a file imports, by what is written in it; of a package all files."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # which it will raise when it is loaded, or never
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
            there = _module_file(home, top) if home != folder or not _is_reserved(top) else None
            if there is None or there == file:
                continue
            if there.is_dir() or there.name == "__init__.py":
                yield from _whole(there if there.is_dir() else there.parent)
            else:
                yield there


def _is_reserved(name: str) -> bool:
    return name == "surgery" or name in sys.stdlib_module_names


def _whole(folder: Path) -> list[Path]:
    """All files of a package that Python can import."""
    found: list[Path] = []
    for file in folder.rglob("*"):
        hidden = any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(folder).parts)
        if not hidden and file.name.endswith((".py", *EXTENSION_SUFFIXES)) and file.is_file():
            found.append(file)
        if len(found) > _MOST:
            break
    return found
