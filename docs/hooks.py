"""Pages that are made of the code when the site is built: command line, Python names, hooks, and the page of a run."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from types import ModuleType

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


ROOT = Path(__file__).parents[1]
RUN = tempfile.TemporaryDirectory(prefix="surgery-docs-")
"""Where the shipped model runs, for its page in the site. It is removed when the process ends."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the reference and the pictures of the examples; MkDocs calls this before it reads the pages."""
    for name, text in (("command-line", command_line()), ("python", python()), ("hooks", hooks())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    for picture in sorted((ROOT / "examples" / "pictures").glob("*.png")):
        files.append(File.generated(config, f"pictures/{picture.name}", abs_src_path=str(picture)))
    folder = run_with_page()
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = path.relative_to(folder).as_posix()
        files.append(File.generated(config, f"walkthrough/{name}", abs_src_path=str(path)))
    return files


def run_with_page() -> Path:
    """Run the shipped model on two images, as ``surgery extract --page --measure checkerboard``; return the folder."""
    import surgery
    from surgery.data import inputs

    folder = Path(RUN.name) / "activations"
    if not folder.exists():  # `mkdocs serve` builds again
        model, sinks = surgery.load_model("facades"), ("png", "page")
        surgery.extract(model, inputs()[:2], out=folder, sinks=sinks, measures="checkerboard", source="facades")
    return folder


def command_line() -> str:
    """Every command with its arguments and options, as typer documents them."""
    command = [sys.executable, "-m", "typer", "surgery.cli.app", "utils", "docs", "--name", "surgery"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - our own command
    return text.replace("# `surgery`", "# Command line", 1)


def python() -> str:
    """The public names of `surgery`, and what plugin authors import, from their docstrings."""
    import surgery

    public = [getattr(surgery, name) for name in surgery.__all__]
    parts = ["# Python", "## surgery", *map(_entry, public)]
    for module in ("errors", "types", "stages", "testing"):
        home = importlib.import_module(f"surgery.{module}")
        names = getattr(home, "__all__", [name for name in vars(home) if not name.startswith("_")])
        values = [getattr(home, name) for name in names]
        own = [value for value in values if _is_of(home, value) and value not in public]
        parts += [f"## surgery.{module}", inspect.getdoc(home) or "", *map(_entry, own)]
    return "\n\n".join(part for part in parts if part) + "\n"


def hooks() -> str:
    """Each hook from its specification, in the order of the source."""
    module = importlib.import_module("surgery.plugins.hook_specifications")
    specified = [getattr(module, name) for name in module.__all__]
    specified.sort(key=lambda hook: (hook.__module__, hook.__code__.co_firstlineno))
    parts = [f"::: {hook.__module__}.{hook.__name__}" for hook in specified]
    return "\n\n".join(["# Hooks", inspect.getdoc(module) or "", *parts]) + "\n"


def _entry(value: Any) -> str:
    """What mkdocstrings replaces by the documentation of a class or function; nothing for those of libraries."""
    if not value.__module__.startswith("surgery"):
        return ""
    return f"::: {value.__module__}.{value.__qualname__}\n    options:\n      heading_level: 3"


def _is_of(home: ModuleType, value: object) -> bool:
    """Whether a module or, for a room, one of its modules defines a documented class or function."""
    is_documented = (inspect.isclass(value) or inspect.isfunction(value)) and value.__doc__ is not None
    module = getattr(value, "__module__", "")
    return is_documented and (module == home.__name__ or module.startswith(f"{home.__name__}."))
