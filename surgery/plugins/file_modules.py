"""Import of plugin files as modules.

The folder of a plugin file becomes a package of its own: ``colors/ember.py`` is the module
``surgery_plugin_colors.ember``. The file imports the modules of its folder, its neighbors, by bare names or relatively,
at its top or inside functions: both ``import _shades`` and ``from . import _shades`` import
``surgery_plugin_colors._shades``. So neighbors of the same name in two folders are two modules. Names of Python's
standard library and of this project never mean a neighbor. Modules are compiled from their source each time; bytecode
files are not used.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.plugins.module_files import find_module_file, is_neighbor
from surgery.text import FILE_PLUGIN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import CodeType, ModuleType

_FOLDERS: dict[str, Path] = {}
"""Name of a package that was made for a plugin's folder -> the folder."""
_FILES: dict[str, Path] = {}
"""The files of the plugins themselves, by module name. Their stems need not be identifiers."""
_TRUSTED: dict[str, Mapping[str, str] | None] = {}
"""For each package, the SHA-256 of the files that may run, by path; None if all may run."""
_LOADED: dict[str, tuple[Path, str]] = {}
"""For each loaded module, its file and the SHA-256 of what was loaded."""


def load_file(file: Path, trusted: Mapping[str, str] | None = None) -> ModuleType:
    """Run a plugin's file, or the ``__init__.py`` of its package, and return the module.

    It runs again even if it was loaded before, and so do neighbors that have changed. With `trusted`, a mapping of
    paths to digests as `compute_digests` returns it, importing any other file raises ImportError. Raises whatever the
    code raises.
    """
    file = file.resolve()
    is_package = file.name == "__init__.py"
    folder = file.parent.parent if is_package else file.parent
    package = _package_name(folder)
    name = f"{package}.{_identifier(file.parent.name if is_package else file.stem)}"
    _FILES[name] = file
    known = _TRUSTED.get(package, {})
    _TRUSTED[package] = None if trusted is None or known is None else {**known, **trusted}
    _install_finder()
    for module in [module for module in sys.modules if module.startswith(f"{package}.")]:
        if module == name or module.startswith(f"{name}.") or _has_changed(module):
            del sys.modules[module]
    return import_module(name)


@dataclass(frozen=True, slots=True)
class PluginFolders:
    """Plain values by which another process finds the modules of plugin files that this one has loaded."""

    folders: Mapping[str, Path]
    files: Mapping[str, Path]
    digests: Mapping[str, str]
    """The SHA-256 of the files that were loaded. Another version of them is not imported."""

    @classmethod
    def current(cls) -> PluginFolders:
        """Return those of this process."""
        loaded = {str(file.resolve()): digest for file, digest in _LOADED.values()}
        return cls(dict(_FOLDERS), dict(_FILES), loaded)

    def restore(self) -> None:
        """Let the same modules be found in this process, which has loaded no plugin file itself."""
        for package, folder in self.folders.items():
            if package not in _FOLDERS:
                _FOLDERS[package], _TRUSTED[package] = folder, self.digests
        for name, file in self.files.items():
            _FILES.setdefault(name, file)
        _install_finder()


def _install_finder() -> None:
    if not any(isinstance(finder, _PluginFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PluginFinder())


def _package_name(folder: Path) -> str:
    """Return the name of the package made for a folder; folders of the same name are numbered."""
    name, number = f"{FILE_PLUGIN_PREFIX}{_identifier(folder.name)}", 1
    while _FOLDERS.setdefault(name, folder) != folder:
        number += 1
        name = f"{FILE_PLUGIN_PREFIX}{_identifier(folder.name)}_{number}"
    return name


def _identifier(name: str) -> str:
    return re.sub(r"\W", "_", name) or "folder"


def _has_changed(module: str) -> bool:
    file, digest = _LOADED.get(module, (None, ""))
    if file is None:
        return False
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest() != digest
    except OSError:
        return True


class _PluginFinder(MetaPathFinder):
    """Finds the modules of the folders of plugins."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:  # noqa: ARG002
        package, dot, rest = fullname.partition(".")
        if package not in _FOLDERS:
            return None
        if not dot:
            return _folder_spec(fullname, _FOLDERS[package])
        for place in path or ():
            file = _FILES.get(fullname) or find_module_file(Path(place), rest.rpartition(".")[2])
            if file is None:
                continue
            if file.is_dir():
                return _folder_spec(fullname, file)
            if file.name.endswith(tuple(EXTENSION_SUFFIXES)):
                _check_trusted(fullname, file, file.read_bytes())
                return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))
            inside = [str(file.parent)] if file.name == "__init__.py" else None
            loader = _SourceLoader(fullname, str(file))
            return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=inside)
        raise ModuleNotFoundError(f"No module named {rest!r} beside the plugin", name=fullname)


class _SourceLoader(SourceFileLoader):
    """Compiles a file from its source, with bare imports of neighbors made relative."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        _check_trusted(fullname, Path(self.path), source)
        tree = _RelativeImports(fullname, Path(self.path)).visit(ast.parse(source, self.path))
        code: CodeType = compile(ast.fix_missing_locations(tree), self.path, "exec", dont_inherit=True)
        return code


def _check_trusted(fullname: str, file: Path, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    trusted = _TRUSTED.get(fullname.partition(".")[0])
    if trusted is not None and trusted.get(str(file.resolve())) != digest:
        raise ImportError(f"{file} is not among the files that were trusted; look at it, then `surgery plugins trust`")
    _LOADED[fullname] = (file, digest)


def _folder_spec(name: str, folder: Path) -> ModuleSpec:
    """Return the spec of a package without ``__init__.py``."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


class _RelativeImports(ast.NodeTransformer):
    """Makes bare imports of neighbors relative."""

    def __init__(self, module: str, file: Path) -> None:
        self.file = file
        self.folder = _FOLDERS[module.partition(".")[0]]
        self.dots = module.count(".") + (file.name == "__init__.py")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level == 0 and node.module and is_neighbor(self.folder, node.module, self.file):
            node.level = self.dots
        return node

    def visit_Import(self, node: ast.Import) -> ast.AST | list[ast.AST]:
        neighbors = [alias for alias in node.names if is_neighbor(self.folder, alias.name, self.file)]
        if not neighbors:
            return node
        node.names = [alias for alias in node.names if alias not in neighbors]
        statements: list[ast.AST] = [node] if node.names else []
        for alias in neighbors:
            parent, _, last = alias.name.rpartition(".")
            top = alias.name.partition(".")[0]
            if alias.asname or not parent:
                statements.append(self._import_from(parent, last, alias.asname, node))
            else:  # `import a.b` imports both modules and binds the name a
                statements.append(self._import_from(parent, last, f"_{last}_of_{top}", node))
                statements.append(self._import_from("", top, None, node))
        return statements

    def _import_from(self, module: str, name: str, alias: str | None, node: ast.AST) -> ast.AST:
        statement = ast.ImportFrom(module or None, [ast.alias(name, alias)], self.dots)
        return ast.copy_location(statement, node)
