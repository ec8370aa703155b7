"""Where plugins come from: installed distributions, files and folders, the environment, the user's pyproject.toml."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import PluginError
from surgery.plugins.file_modules import load_file
from surgery.plugins.guarded_calls import describe_error
from surgery.plugins.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENTRY_POINT_GROUP, WATCHER_GROUP = "surgery", "surgery.watchers"
"""Groups of entry points."""

ENVIRONMENT_VARIABLE = "SURGERY_PLUGINS"


def find_installed_plugins() -> list[Plugin]:
    """The plugins of installed distributions, in order of their names; none of them is imported yet."""
    found: dict[str, Plugin] = {}
    for distribution in distributions():
        points = [
            *distribution.entry_points.select(group=ENTRY_POINT_GROUP),
            *distribution.entry_points.select(group=WATCHER_GROUP),
        ]
        if not points:
            continue
        # What is found in the working directory, which Python may look into first, was not installed by anybody.
        if not Path(str(distribution.locate_file(""))).is_absolute():
            continue
        name = distribution.metadata["Name"]
        watches = any(point.group == WATCHER_GROUP for point in points)
        # The first of a name on sys.path is the one that is imported.
        found.setdefault(
            normalize_name(name),
            Plugin(name, distribution.version, "installed", partial(_entries, points), watches_runs=watches),
        )
    return [found[name] for name in sorted(found)]


def find_plugins_at(path: str | Path, trusted: Mapping[str, str] | None = None) -> list[Plugin]:
    """The plugins of a Python file, or of a folder: its files that mark a hook, the package or the distribution it is.

    With `trusted`, digests of files, no other file is run for them. Raises PluginError where there is none.
    """
    return [Plugin(name, "", origin, partial(_module, file, trusted)) for name, origin, file in _files_of(Path(path))]


def find_plugin_files(path: Path) -> list[Path]:
    """The files that are loaded for the plugins at a path. Raises PluginError where there is none."""
    return [file for _, _, file in _files_of(path)]


def _files_of(path: Path) -> list[tuple[str, str, Path]]:
    """The name, the origin and the file of each plugin at a path."""
    if path.is_dir():
        if modules := _distributed(path):
            return [found for module in modules for found in _files_of(module)]
        if (path / "__init__.py").is_file():
            return [(path.resolve().name, str(path), path / "__init__.py")]
        files = [file for file in sorted(path.glob("*.py")) if b"hookimpl" in file.read_bytes()]
        if not files:
            raise PluginError(f"there is no plugin in the folder {path}: no *.py with @surgery.hookimpl")
        return [(file.name, str(file), file) for file in files]
    if not path.is_file():
        raise PluginError(f"there is no plugin file {path}")
    if path.suffix != ".py":
        raise PluginError(f"{path} is no Python file; a plugin is a module like ember.py")
    return [(path.name, str(path), path)]


def _distributed(folder: Path) -> list[Path]:
    """The modules that a folder's pyproject.toml has entry points to, where they are in it."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        points = project.get("entry-points", {})
        names = {
            value.partition(":")[0].strip()
            for group in (ENTRY_POINT_GROUP, WATCHER_GROUP)
            for value in points.get(group, {}).values()
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    found = []
    for name in sorted(name for name in names if all(part.isidentifier() for part in name.split("."))):
        for place in (folder, folder / "src"):
            path = place.joinpath(*name.split("."))
            found += [module for module in (path, path.with_name(f"{path.name}.py")) if module.exists()]
    return found


@dataclass(frozen=True, slots=True)
class PluginRequest:
    """A file or a folder of plugins that the environment or a pyproject.toml names."""

    path: Path
    source: str
    """What names it."""
    is_local: bool
    """Whether the working directory decides what is run."""


def find_requests(start: Path) -> tuple[list[PluginRequest], list[str]]:
    """What the environment and the nearest pyproject.toml, upward from `start`, name, and what is wrong with that."""
    paths = [
        Path(os.path.expanduser(name))  # noqa: PTH111 - which leaves an unknown user's ~name as it is
        for name in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep)
        if name
    ]
    found = [PluginRequest(path, ENVIRONMENT_VARIABLE, is_local=not path.is_absolute()) for path in paths]
    try:
        file, names = _from_project(start)
    except PluginError as error:
        return found, [str(error)]
    return [*found, *(PluginRequest(file.parent / name, str(file), is_local=True) for name in names)], []


def _from_project(start: Path) -> tuple[Path, list[str]]:
    """The nearest pyproject.toml with a table ``[tool.surgery]``, and the plugins that it names.

    Raises PluginError where it can't be read, or names something else.
    """
    for folder in (start, *start.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("surgery")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise PluginError(f"can't read {file} for plugins: {error}") from error
        if table is None:
            continue
        given = table.get("plugins", []) if isinstance(table, dict) else None
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise PluginError(f"plugins of [tool.surgery] in {file} are a list of files and folders, not {given!r}")
        return file, given
    return start, []


def normalize_name(name: str) -> str:
    """The name of a distribution as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries(points: Sequence[EntryPoint]) -> list[object]:
    modules: list[object] = []
    for point in points:
        where = f" (entry point {point.name} = {point.value})"
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(f"can't be imported: {describe_error(error, where)}") from error
        if not any(module is known for known in modules):
            modules.append(module)
    return modules


def _module(file: Path, trusted: Mapping[str, str] | None) -> list[object]:
    return [load_file(file, trusted)]
