"""Where plugins come from: installed distributions, files and folders, the environment, the user's pyproject.toml."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from functools import partial
from importlib.metadata import EntryPoint, distributions
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import PluginError
from surgery.loading import said_of
from surgery.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP, WATCHERS = "surgery", "surgery.watchers"
"""Groups of entry points."""

VARIABLE = "SURGERY_PLUGINS"


def installed() -> list[Plugin]:
    """The plugins of installed distributions, in order of their names; none of them is imported yet."""
    found: dict[str, Plugin] = {}
    for distribution in distributions():
        points = [*distribution.entry_points.select(group=GROUP), *distribution.entry_points.select(group=WATCHERS)]
        if not points:
            continue
        name = distribution.metadata["Name"]
        watches = any(point.group == WATCHERS for point in points)
        # The first of a name on sys.path is the one that is imported.
        found.setdefault(
            canonical(name), Plugin(name, distribution.version, "installed", partial(_entries, points), watches=watches)
        )
    return [found[name] for name in sorted(found)]


def named(path: str | Path) -> list[Plugin]:
    """The plugins of a Python file, or of a folder: its files that mark a hook, the package or the distribution it is.

    Raises PluginError where there is none.
    """
    path = Path(path)
    if path.is_dir():
        if modules := _distributed(path):
            return [plugin for module in modules for plugin in named(module)]
        if (path / "__init__.py").is_file():
            return [Plugin(path.resolve().name, "", str(path), partial(_module, path / "__init__.py"))]
        files = [file for file in sorted(path.glob("*.py")) if b"hookimpl" in file.read_bytes()]
        if not files:
            raise PluginError(f"there is no plugin in the folder {path}: no *.py with @surgery.hookimpl")
        return [Plugin(file.name, "", str(file), partial(_module, file)) for file in files]
    if not path.is_file():
        raise PluginError(f"there is no plugin file {path}")
    if path.suffix != ".py":
        raise PluginError(f"{path} is no Python file; a plugin is a module like ember.py")
    return [Plugin(path.name, "", str(path), partial(_module, path))]


def _distributed(folder: Path) -> list[Path]:
    """The modules that a folder's pyproject.toml has entry points to, where they are in it."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        points = project.get("entry-points", {})
        names = {
            value.partition(":")[0].strip() for group in (GROUP, WATCHERS) for value in points.get(group, {}).values()
        }
    except (OSError, ValueError, AttributeError):
        return []
    found = []
    for name in sorted(names):
        for place in (folder, folder / "src"):
            path = place.joinpath(*name.split("."))
            found += [module for module in (path, path.with_name(f"{path.name}.py")) if module.exists()]
    return found


def from_environment() -> list[str]:
    """The files and folders that ``SURGERY_PLUGINS`` names, separated as those of ``PATH`` are."""
    return [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]


def from_project(start: Path) -> list[Path]:
    """The files and folders that the nearest pyproject.toml, upward from `start`, names under ``[tool.surgery]``.

    Raises PluginError where it can't be read, or names something else.
    """
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("surgery")
        except (OSError, ValueError, AttributeError) as error:
            raise PluginError(f"can't read {file} for plugins: {error}") from error
        if table is None:
            continue
        given = table.get("plugins", []) if isinstance(table, dict) else None
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise PluginError(f"plugins of [tool.surgery] in {file} are a list of files and folders, not {given!r}")
        return [folder / name for name in given]
    return []


def canonical(name: str) -> str:
    """The name of a distribution as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(points: Sequence[EntryPoint]) -> list[object]:
    modules: list[object] = []
    for point in points:
        where = f" (entry point {point.name} = {point.value})"
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"can't be imported: {said_of(error, where)}") from error
        if not any(module is known for known in modules):
            modules.append(module)
    return modules


def _module(file: Path) -> list[object]:
    stem = file.parent.resolve().name if file.name == "__init__.py" else file.stem
    name, number = f"surgery_plugin_{stem}", 1
    while (known := sys.modules.get(name)) is not None and known.__file__ != str(file.resolve()):
        number += 1
        name = f"surgery_plugin_{stem}_{number}"
    inside = [str(file.parent.resolve())] if file.name == "__init__.py" else None
    spec = spec_from_file_location(name, file.resolve(), submodule_search_locations=inside)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file; a plugin is a module like ember.py")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return [module]
