"""Where plugins are found: installed distributions, files and folders, the environment, a pyproject.toml."""

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
ENVIRONMENT_VARIABLE = "SURGERY_PLUGINS"


def find_installed_plugins() -> list[Plugin]:
    """Return the plugins of installed distributions, sorted by name. None of them is imported."""
    found: dict[str, Plugin] = {}
    for distribution in distributions():
        points = [
            *distribution.entry_points.select(group=ENTRY_POINT_GROUP),
            *distribution.entry_points.select(group=WATCHER_GROUP),
        ]
        if not points:
            continue
        # Python may search the working directory first, but nobody installed what lies there.
        if not Path(str(distribution.locate_file(""))).is_absolute():
            continue
        name = distribution.metadata["Name"]
        follows_runs = any(point.group == WATCHER_GROUP for point in points)
        plugin = Plugin(name, distribution.version, "installed", partial(_load_entry_points, points), follows_runs)
        # Of several distributions of one name, the first on sys.path is the one that is imported.
        found.setdefault(normalize_name(name), plugin)
    return [found[name] for name in sorted(found)]


def find_plugins_at(path: str | Path, trusted: Mapping[str, str] | None = None) -> list[Plugin]:
    """Return the plugins at a path: of a Python file, of a folder of plugin files, of a package or a distribution.

    With `trusted`, a mapping of paths to SHA-256 digests, no other file is run for them. Raises PluginError if there is
    no plugin.
    """
    return [
        Plugin(name, "", origin, partial(_load_module, file, trusted)) for name, origin, file in _find_files(Path(path))
    ]


def find_plugin_files(path: Path) -> list[Path]:
    """Return the files that are loaded for the plugins at a path. Raises PluginError if there is none."""
    return [file for _, _, file in _find_files(path)]


def _find_files(path: Path) -> list[tuple[str, str, Path]]:
    """Return the name, the origin and the file of each plugin at a path."""
    if path.is_dir():
        if modules := _find_distributed_modules(path):
            return [found for module in modules for found in _find_files(module)]
        if (path / "__init__.py").is_file():
            return [(path.resolve().name, str(path), path / "__init__.py")]
        files = [file for file in sorted(path.glob("*.py")) if b"hookimpl" in file.read_bytes()]
        if not files:
            raise PluginError(f"there is no plugin in the folder {path}: no *.py with @surgery.hookimpl")
        return [(file.name, str(file), file) for file in files]
    if not path.is_file():
        raise PluginError(f"there is no plugin file {path}")
    if path.suffix != ".py":
        raise PluginError(f"{path} is not a Python file; a plugin is a module like ember.py")
    return [(path.name, str(path), path)]


def _find_distributed_modules(folder: Path) -> list[Path]:
    """Return the modules in a folder that the entry points of its pyproject.toml name."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
        groups = project.get("entry-points", {})
        names = {
            value.partition(":")[0].strip()
            for group in (ENTRY_POINT_GROUP, WATCHER_GROUP)
            for value in groups.get(group, {}).values()
        }
    except (OSError, ValueError, AttributeError, RecursionError):
        return []
    found = []
    for name in sorted(name for name in names if all(part.isidentifier() for part in name.split("."))):
        for parent in (folder, folder / "src"):
            path = parent.joinpath(*name.split("."))
            found += [module for module in (path, path.with_name(f"{path.name}.py")) if module.exists()]
    return found


@dataclass(frozen=True, slots=True)
class PluginRequest:
    """A path of plugins that the environment or a pyproject.toml names."""

    path: Path
    source: str
    """Where it is named: the environment variable, or the path of the pyproject.toml."""
    needs_trust: bool
    """Whether the path depends on the working directory."""


def find_requests(start: Path) -> tuple[list[PluginRequest], list[str]]:
    """Return the plugins that the environment and the nearest pyproject.toml name, and one line for each problem.

    The pyproject.toml is searched from the folder `start` upward.
    """
    paths = [
        Path(os.path.expanduser(name))  # noqa: PTH111 - for an unknown user, Path.expanduser raises
        for name in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep)
        if name
    ]
    requests = [PluginRequest(path, ENVIRONMENT_VARIABLE, needs_trust=not path.is_absolute()) for path in paths]
    try:
        file, names = _read_pyproject(start)
    except PluginError as error:
        return requests, [str(error)]
    return [*requests, *(PluginRequest(file.parent / name, str(file), needs_trust=True) for name in names)], []


def _read_pyproject(start: Path) -> tuple[Path, list[str]]:
    """Return the nearest pyproject.toml with a table ``[tool.surgery]``, and the plugins that it names.

    Raises PluginError if the file can't be read or `plugins` is not a list of strings.
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
        names = table.get("plugins", []) if isinstance(table, dict) else None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PluginError(f"plugins of [tool.surgery] in {file} are a list of files and folders, not {names!r}")
        return file, names
    return start, []


def normalize_name(name: str) -> str:
    """Return a distribution's name with its spelling normalized, as the packaging standards define it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _load_entry_points(points: Sequence[EntryPoint]) -> list[object]:
    modules: list[object] = []
    for point in points:
        try:
            module = point.load()
        except (Exception, SystemExit) as error:
            location = f" (entry point {point.name} = {point.value})"
            raise PluginError(f"can't be imported: {describe_error(error, location)}") from error
        if not any(module is known for known in modules):
            modules.append(module)
    return modules


def _load_module(file: Path, trusted: Mapping[str, str] | None) -> list[object]:
    return [load_file(file, trusted)]
