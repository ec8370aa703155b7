"""A new plugin: a file that works at once, or a distribution that can be installed."""

from __future__ import annotations

import builtins
import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from surgery.errors import OutputError, PluginError
from surgery.plugins.plugin import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.plugins.registry import Plugins

Template: TypeAlias = Kind | Literal["watcher"]
TEMPLATES: tuple[Template, ...] = (*get_args(Kind), "watcher")
"""What can be begun: a thing of each kind, and functions that watch runs."""

_HERE = Path(__file__).parent / "templates"
_NOUNS = {"checkpoint": "reader of checkpoints", "reader": "reader of inputs", "watcher": "watcher of runs"}


def write_plugin(name: str, kind: Template, folder: Path, *, package: bool, known: Plugins) -> Path:
    """Write a plugin called `name`. Returns its file, or the folder of the distribution.

    Nothing is overwritten. Raises PluginError for a name that can't be used, which `known` plugins may have taken, and
    OutputError where it can't be written.
    """
    check_name(name, kind, known)
    target = folder / (f"surgery-{name.replace('_', '-')}" if package else f"{name}.py")
    if target.exists():
        raise PluginError(f"{target} is there already; choose another name, or another folder with -o")
    module = f"surgery_{name}"
    if package and find_spec(module) is not None:
        raise PluginError(f"a package {module} is installed already; choose another name")
    text = _filled(f"{kind}.py", name, kind)
    files = {target: text}
    if package:
        files = {
            target / "pyproject.toml": _with_watchers(_filled("package/pyproject.toml", name, kind), name, kind),
            target / "README.md": _filled("package/README.md", name, kind),
            target / module / "__init__.py": text,
            target / "tests" / f"test_{name}.py": _filled("package/test_plugin.py", name, kind),
        }
    for file, content in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                opened.write(content)
        except OSError as error:
            raise OutputError(f"can't write {file}: {(error.strerror or str(error)).lower()}") from error
    return target


def check_name(name: str, kind: Template, known: Plugins) -> None:
    """Raise PluginError, with what to do, for what is no name for a plugin of a kind, or is one that is taken."""
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        fit = re.sub(r"\W+", "_", name).strip("_")
        fit = fit if fit.isidentifier() and not keyword.iskeyword(fit) else f"my_{fit or kind}"
        raise PluginError(f"{name!r} can't be a name in Python; choose another, such as {fit}")
    if name.startswith("surgery") or name in dir(builtins):
        raise PluginError(f"{name!r} would hide what is called so already; choose another name, such as my_{name}")
    if (spec := find_spec(name)) is not None and not _is_here(spec.origin):
        raise PluginError(f"{name!r} would hide the Python module of that name; choose another, such as my_{name}")
    if kind == "watcher":
        return
    for owner, offered in known.list_offers(kind):
        # A plugin's colormap stands before one of the 1,500 that come with the project.
        if name in offered and not (kind == "colormap" and owner.origin == "built in"):
            raise PluginError(f"there is a {kind} {name!r}, of {owner.name}; choose another name, such as my_{name}")


def commands_to_try(name: str, kind: Template, target: Path) -> list[str]:
    """Command lines that use a plugin in a file, or one that is installed, where `target` is a folder."""
    plugin = "" if target.suffix != ".py" else f" --plugin {target}"
    given = f"{plugin} -o {name}"  # a folder of its own: the usual one may hold a run
    if kind == "model":
        return [f"surgery extract {name}{given}"]
    if kind == "watcher":
        return [f"surgery extract{given}"]
    if kind == "reader":
        return [r"printf '1 -1\n-1 1\n' > checks.txt", f"surgery extract facades checks.txt --reader {name}{given}"]
    if kind == "checkpoint":
        weights = f"{{'{name}.weight': torch.randn(8, 3, 3, 3), '{name}.bias': torch.zeros(8)}}"
        save = f"python -c \"import torch; torch.save({weights}, '{name}.pth')\""
        return [save, f"surgery extract {name}.pth{given}"]
    return [f"surgery extract --{kind} {name}{given}"]


def _filled(template: str, name: str, kind: Template) -> str:
    text = (_HERE / template).read_text(encoding="utf-8")
    commands = "".join(f"\n    {command}" for command in commands_to_try(name, kind, Path()))
    filled: Mapping[str, str] = {
        "surgery-ember": f"surgery-{name.replace('_', '-')}",
        "Ember": "".join(part.capitalize() for part in name.split("_")),
        "ember": name,
        "WHAT": f"A {_NOUNS.get(kind, kind)}",
        "\nCOMMANDS": commands,
    }
    return re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], text)


def _with_watchers(pyproject: str, name: str, kind: Template) -> str:
    """With the entry point that has a plugin imported for every run."""
    if kind != "watcher":
        return pyproject
    watchers = f'[project.entry-points."surgery.watchers"]\n{name} = "surgery_{name}"\n\n'
    return pyproject.replace("[tool.hatch", f"{watchers}[tool.hatch", 1)


def _is_here(origin: str | None) -> bool:
    """Whether a module is a file of the working directory, which Python may import from."""
    return origin is not None and Path(origin).resolve().parent == Path.cwd()
