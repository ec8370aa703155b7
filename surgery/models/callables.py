"""Models that a user's own code makes: ``package.module:callable`` and ``file.py:callable``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import ModelError, SurgeryError, did_you_mean, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def parse_file_callable(source: str) -> tuple[Path, str] | None:
    """The file and the callable in ``file.py:callable``; None where it is not that."""
    found = re.fullmatch(r"(.+\.py):([^:/\\]*)", source, re.DOTALL)
    return (Path(found[1]).expanduser(), found[2]) if found else None


def load_from_file(source: str, file: Path, attribute: str) -> object:
    """What a callable in a Python file returns, or the module that it is. The file's folder can be imported from."""
    if not file.is_file():
        raise ModelError(f"there is no file {file}")
    with _import_folder(str(file.resolve().parent)):
        return _load_attribute(source, str(file), attribute, lambda: _import_file(file))


def load_from_module(source: str) -> object:
    """What ``package.module:callable`` gives: of an installed module, else of one in the working directory."""
    name, _, attribute = source.partition(":")
    if _is_installed(name.partition(".")[0]):
        return _load_attribute(source, name, attribute, lambda: importlib.import_module(name))
    with _import_folder(str(Path.cwd())):
        importlib.invalidate_caches()
        return _load_attribute(source, name, attribute, lambda: importlib.import_module(name))


def _is_installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # else a folder that happens to be called so


@contextmanager
def _import_folder(folder: str) -> Iterator[None]:
    """Within the block a folder is looked into first; afterwards last, so that it hides nothing that is installed."""
    if "" in sys.path or folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)


def call_factory(source: str, factory: Any) -> object:
    """What a factory returns. Raises ModelError for whatever it raises."""
    try:
        return factory()
    except SurgeryError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{source} can't be built: {type(error).__name__}: {first_line(error)}") from error


def list_definitions(file: Path) -> list[str]:
    """The names of the functions and classes of a Python file, which is not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def _load_attribute(source: str, module_name: str, attribute: str, load: Any) -> object:
    from torch import nn

    try:
        module: ModuleType = load()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{source}: can't import {module_name}: {type(error).__name__}: {first_line(error)}"
        ) from error
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:
            near = did_you_mean(attribute, dir(module))
            raise ModelError(f"{module_name} has no {attribute!r}{near}") from error
    return found if isinstance(found, nn.Module) or not callable(found) else call_factory(source, found)


def _import_file(file: Path) -> ModuleType:
    """A Python file as a module, once for each file, so that its classes can be pickled."""
    file = file.resolve()
    known = sys.modules.get(file.stem)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    # A name that is taken, by a library say, is left to whom it belongs.
    name = file.stem if known is None and importlib.util.find_spec(file.stem) is None else f"{file.stem}_{hash(file):x}"
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
