"""What every command takes that has to do with plugins, and how what goes wrong is said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from surgery.plugins import Plugins

PluginFiles = Annotated[
    list[Path], typer.Option("--plugin", metavar="PATH", help="A plugin: a Python file or a folder. Repeatable.")
]
NoPlugin = Annotated[list[str], typer.Option(metavar="NAME", help="A plugin to leave out. Repeatable.")]
NoPlugins = Annotated[bool, typer.Option("--no-plugins", help="Leave out all but the built-in ones and --plugin's.")]
Strict = Annotated[bool, typer.Option("--strict-plugins", help="Take what is wrong with any plugin as an error.")]


def open_plugins(files: list[Path], blocked: list[str], bare: bool, strict: bool) -> Plugins:
    """The plugins that these options ask for; what is wrong with one is said at once."""
    from surgery.plugins import Plugins

    return Plugins(files, blocked=blocked, bare=bare, strict=strict, tell=complain)


def complain(line: str) -> None:
    """Say on standard error what is wrong."""
    print(f"surgery: {line}", file=sys.stderr)  # noqa: T201
