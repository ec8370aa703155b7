"""New plugins: a file that works at once, or a distribution with a test, which pip installs."""

from __future__ import annotations

import builtins
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from surgery.errors import OutputError, PluginError, describe_os_error
from surgery.plugins.object_kinds import KINDS, Kind

if TYPE_CHECKING:
    from surgery.plugins.registry import Plugins

Template: TypeAlias = Kind | Literal["watcher"]
TEMPLATES: tuple[Template, ...] = (*KINDS, "watcher")
"""What `write_plugin` can write: an object of each kind, or a watcher."""

_FOLDER = Path(__file__).parent / "templates"
_NOUNS = {"checkpoint": "checkpoint reader", "reader": "reader of inputs", "watcher": "watcher of runs"}


def write_plugin(name: str, kind: Template, folder: Path, *, package: bool, known: Plugins) -> Path:
    """Write a plugin with this name; return its file, or with `package` the folder of its distribution.

    No file is overwritten. Raises PluginError if the name can't be used or one of the `known` plugins has it, and
    OutputError if a file can't be written.
    """
    check_name(name, kind, known)
    target = folder / (f"surgery-{name.replace('_', '-')}" if package else f"{name}.py")
    if target.exists():
        raise PluginError(f"{target} exists already; choose another name, or another folder with -o")
    module = f"surgery_{name}"
    if package and find_spec(module) is not None:
        raise PluginError(f"a package {module} is installed already; choose another name")
    text = _fill_template(f"{kind}.py", name, kind)
    files = {target: text}
    if package:
        files = {
            target / "pyproject.toml": _pyproject(name, kind),
            target / "README.md": _fill_template("package/README.md", name, kind),
            target / module / "__init__.py": text,
            target / "tests" / f"test_{name}.py": _fill_template("package/test_plugin.py", name, kind),
        }
    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(content)
        except OSError as error:
            raise OutputError(f"can't write {file}: {describe_os_error(error)}") from error
    return target


def check_name(name: str, kind: Template, known: Plugins) -> None:
    """Raise PluginError, with a suggestion, if a new plugin can't have this name or the name is taken."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        valid = re.sub(r"\W+", "_", name).strip("_")
        valid = valid if valid.isidentifier() and not keyword.iskeyword(valid) else f"my_{valid or kind}"
        raise PluginError(f"{name!r} can't be a name in Python; choose another, such as {valid}")
    if name.startswith("surgery") or name in dir(builtins):
        raise PluginError(f"{name!r} would hide another thing of that name; choose another, such as my_{name}")
    if (spec := find_spec(name)) is not None and not _is_in_working_directory(spec.origin):
        raise PluginError(f"{name!r} would hide the Python module of that name; choose another, such as my_{name}")
    if kind == "watcher":
        return
    for plugin, objects in known.list_offers(kind):
        # A plugin's colormap precedes one of the 1,500 that come with the project.
        if name in objects and not (kind == "colormap" and plugin.origin == "built in"):
            raise PluginError(f"there is a {kind} {name!r}, of {plugin.name}; choose another name, such as my_{name}")


def commands_to_try(name: str, kind: Template, target: Path) -> list[str]:
    """Return command lines that use a plugin file, or an installed plugin if `target` is a folder."""
    plugin = "" if target.suffix != ".py" else f" --plugin {target}"
    options = f"{plugin} -o {name}"  # the default folder may contain another run
    uses = {"model": f" {name}", "watcher": "", "edit": f" --edit 'down1.conv = {name}'"}
    if kind == "reader":
        return [r"printf '1 -1\n-1 1\n' > checks.txt", f"surgery extract facades checks.txt --reader {name}{options}"]
    if kind == "checkpoint":
        weights = f"{{'{name}.weight': torch.randn(8, 3, 3, 3), '{name}.bias': torch.zeros(8)}}"
        save = f"python -c \"import torch; torch.save({weights}, '{name}.pth')\""
        return [save, f"surgery extract {name}.pth{options}"]
    return [f"surgery extract{uses.get(kind, f' --{kind} {name}')}{options}"]


def _fill_template(template: str, name: str, kind: Template) -> str:
    text = (_FOLDER / template).read_text(encoding="utf-8")
    commands = "".join(f"\n    {command}" for command in commands_to_try(name, kind, Path()))
    replacements = {
        "surgery-ember": f"surgery-{name.replace('_', '-')}",
        "Ember": "".join(part.capitalize() for part in name.split("_")),
        "ember": name,
        "WHAT": f"A {_NOUNS.get(kind, kind)}",
        "\nCOMMANDS": commands,
    }
    return re.sub("|".join(map(re.escape, replacements)), lambda match: replacements[match[0]], text)


def _pyproject(name: str, kind: Template) -> str:
    """Return a pyproject.toml; that of a watcher has the entry point that makes it imported for every run."""
    text = _fill_template("package/pyproject.toml", name, kind)
    if kind != "watcher":
        return text
    watchers = f'[project.entry-points."surgery.watchers"]\n{name} = "surgery_{name}"\n\n'
    return text.replace("[tool.hatch", f"{watchers}[tool.hatch", 1)


def _is_in_working_directory(origin: str | None) -> bool:
    """Return whether a module is a file of the working directory, which Python may search first."""
    return origin is not None and Path(origin).resolve().parent == Path.cwd()
