"""Models from a user's own code: ``package.module:callable`` and ``file.py:callable``."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import ModelError, SurgeryError, did_you_mean, first_line
from surgery.interrupts import raising_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType


def parse_file_callable(source: str) -> tuple[Path, str] | None:
    """Return the file and what follows it in ``file.py:callable``; None for a text of another form."""
    forms = (r"(.+\.py):([^:/\\]*)", r"(.+?\.py):(.*)")  # what follows in the second is no name, and is refused
    match = next((match for form in forms if (match := re.fullmatch(form, source, re.DOTALL))), None)
    return (Path(match[1]).expanduser(), match[2]) if match else None


def load_from_file(source: str, file: Path, attribute: str) -> object:
    """Return the result of a callable in a Python file, or the `nn.Module` that it is.

    The file can import modules from its folder. Raises ModelError if the file or the callable fails.
    """
    if not file.is_file():
        raise ModelError(f"there is no file {file}")
    _check_name(source, str(file), attribute, list_definitions(file))
    with _import_folder(str(file.resolve().parent)):
        return _load_attribute(source, str(file), attribute, lambda: _import_file(file))


def load_from_module(source: str) -> object:
    """Return the result of ``package.module:callable``, or the `nn.Module` that it is.

    An installed module comes before one in the working directory. Raises ModelError if it, or the callable, fails.
    """
    name, _, attribute = source.partition(":")
    _check_module(source, name, "callable")
    _check_name(source, name, attribute)
    if _is_installed(name.partition(".")[0]):
        return _load_attribute(source, name, attribute, lambda: importlib.import_module(name))
    with _import_folder(str(Path.cwd())):
        importlib.invalidate_caches()
        return _load_attribute(source, name, attribute, lambda: importlib.import_module(name))


def load_function(source: str) -> Callable[..., Any]:
    """Return the function that ``file.py:function`` or ``package.module:function`` names, without calling it.

    Raises ModelError if the file or the module can't be imported, or has no such function.
    """
    parsed = parse_file_callable(source)
    if parsed is not None and not parsed[0].is_file():
        raise ModelError(f"there is no file {parsed[0]}")
    name, attribute = (str(parsed[0]), parsed[1]) if parsed else (source.partition(":")[0], source.partition(":")[2])
    if not all(part.isidentifier() for part in attribute.split(".")):
        raise ModelError(f"{source} names no function; write file.py:function or package.module:function")
    if parsed is None:
        _check_module(source, name, "function")
    with _import_folder(str(parsed[0].resolve().parent if parsed else Path.cwd())):
        load = partial(_import_file, parsed[0]) if parsed else partial(importlib.import_module, name)
        found = _find_attribute(source, name, attribute, load)
    if not callable(found):
        raise ModelError(f"{source} is no function, but {type(found).__name__}")
    return found


def _check_module(source: str, name: str, what: str) -> None:
    """Raise ModelError, which says what to write, for a text before the colon that is not the name of a module."""
    if not all(part.isidentifier() for part in name.split(".")):
        said = f"{source}: {name!r} is not the name of a module" if name else f"{source} names no module"
        raise ModelError(f"{said}; write package.module:{what} or file.py:{what}")


def _check_name(source: str, place: str, name: str, definitions: Sequence[str] = ()) -> None:
    """Raise ModelError, which says what to write, for a text after the colon that is not the name of a callable."""
    if all(part.isidentifier() for part in name.split(".")):
        return
    example = next((f"{place}:{each}" for each in definitions), f"{place}:NAME")
    words = re.match(r":?([^\W\d]\w*(?:\.[^\W\d]\w*)*)(.*)", name, re.DOTALL)
    if not name.strip(":") or re.match(r"\w+=", name):
        raise ModelError(f"{source} names no callable; write {example}")
    if words is None:
        raise ModelError(f"{source}: {name!r} is not the name of a callable; write {example}")
    called = f"{place}:{words[1]}"
    if words[2].strip() in ("", ":", "()"):
        raise ModelError(f"{source}: write {called}, which is called without arguments")
    if words[2].lstrip()[0] in ":(=,":
        raise ModelError(
            f"{source}: {called} is called without arguments, and takes no options; write a function that gives them, "
            f"and name it: {place}:NAME"
        )
    raise ModelError(f"{source}: {name!r} is not the name of a callable; write {example}")


def _is_installed(name: str) -> bool:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # else it is a folder that happens to have this name


@contextmanager
def _import_folder(folder: str) -> Iterator[None]:
    """Within the block, import from a folder first; afterwards last, so that it hides no installed module."""
    if "" in sys.path or folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)


def call_factory(source: str, factory: Callable[[], object]) -> object:
    """Return what a factory returns. Raises ModelError for whatever it raises."""
    try:
        with raising_interrupts():
            return factory()
    except SurgeryError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{source} can't be built: {type(error).__name__}: {first_line(error)}") from error


def list_definitions(file: Path) -> list[str]:
    """Return the names of the functions and classes of a Python file, which is not run."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


def _load_attribute(source: str, module_name: str, attribute: str, load: Callable[[], ModuleType]) -> object:
    """Return an attribute of the module that `load` imports; the result of its call, unless it is an `nn.Module`."""
    from torch import nn

    from surgery.models.seeding import unchanged_generators

    with unchanged_generators():  # what the model draws is the same whether the module is imported now or was before
        value = _find_attribute(source, module_name, attribute, load)
    return value if isinstance(value, nn.Module) or not callable(value) else call_factory(source, value)


def _find_attribute(source: str, module_name: str, attribute: str, load: Callable[[], ModuleType]) -> object:
    """Return an attribute of the module that `load` imports."""
    try:
        with raising_interrupts():
            module = load()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{source}: can't import {module_name}: {type(error).__name__}: {first_line(error)}"
        ) from error
    value: object = module
    for part in attribute.split("."):
        try:
            value = getattr(value, part)
        except Exception as error:
            near = did_you_mean(attribute, dir(module))
            raise ModelError(f"{module_name} has no {attribute!r}{near}") from error
    return value


_IMPORTED: dict[str, Path] = {}
"""The files that were imported as modules, by the names of the modules."""


def imported_files() -> dict[str, Path]:
    """Return the Python files that were imported as modules, by the names of the modules."""
    return {name: file for name, file in _IMPORTED.items() if name in sys.modules}


def _import_file(file: Path) -> ModuleType:
    """Import a Python file as a module, once for each file, so that its classes can be pickled."""
    file = file.resolve()
    known = sys.modules.get(file.stem)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    # Another module of this name, such as an installed library, keeps it.
    name = file.stem if known is None and importlib.util.find_spec(file.stem) is None else f"{file.stem}_{hash(file):x}"
    return import_file_as(name, file)


def import_file_as(name: str, file: Path) -> ModuleType:
    """Import a Python file as a module of this name, unless there is one. Raises whatever its code raises."""
    if name in sys.modules:
        return sys.modules[name]
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
    _IMPORTED[name] = file
    return module
