"""The commands about plugins: list them, begin one, check one, show what one offers."""

from __future__ import annotations

import json
import logging
import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from surgery.cli.arguments import NoPlugin, NoPlugins, PluginFiles, Strict, Trusting, open_plugins
from surgery.cli.streams import say
from surgery.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from surgery.plugins import Plugin

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


class Kinds(StrEnum):
    """What a plugin can be begun as."""

    transform = "transform"
    normalizer = "normalizer"
    tiler = "tiler"
    colormap = "colormap"
    sink = "sink"
    model = "model"
    checkpoint = "checkpoint"
    reader = "reader"
    watcher = "watcher"


@app.callback(invoke_without_command=True)
def listed(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
    plugin: PluginFiles = [],  # noqa: B006
    no_plugin: NoPlugin = [],  # noqa: B006
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    trust: Trusting = False,
) -> None:
    """List every plugin with what it offers; begin a new one, check one, show what one offers."""
    if context.invoked_subcommand is not None:
        if as_json or plugin or no_plugin or no_plugins or strict_plugins or trust:
            raise typer.BadParameter(f"options stand behind {context.invoked_subcommand}, not before it")
        return
    from surgery.cli.tables import plugins_view, terminal
    from surgery.plugins import KINDS

    found = open_plugins(plugin, no_plugin, no_plugins, strict_plugins, trust)
    found.check()
    if not as_json:
        terminal().print(plugins_view(found, KINDS))
        return
    entries = [
        {
            "name": entry.name,
            "version": entry.version,
            "origin": entry.origin,
            "state": entry.state,
            "faults": entry.problems,
            **{f"{kind}s": [n for owner, v in found.list_offers(kind) if owner is entry for n in v] for kind in KINDS},
        }
        for entry in found.plugins
    ]
    say(json.dumps(entries, indent=1))


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the plugin, and of the thing that it offers.")],
    kind: Annotated[Kinds, typer.Option(help="What it offers; a watcher offers nothing and is told of every run.")],
    package: Annotated[
        bool, typer.Option("--package", help="A distribution that can be installed, not a single file.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(),
    plugin: PluginFiles = [],  # noqa: B006
    no_plugin: NoPlugin = [],  # noqa: B006
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    trust: Trusting = False,
) -> None:
    """Begin a plugin: a file that works at once, or with --package a distribution with its test."""
    from surgery.cli.tables import begun_view, terminal
    from surgery.plugins import commands_to_try, write_plugin

    known = open_plugins(plugin, no_plugin, no_plugins, strict_plugins, trust)
    target = write_plugin(name, kind.value, out, package=package, known=known)
    files = sorted(file for file in target.rglob("*") if file.is_file()) if package else [target]
    steps = {"try": commands_to_try(name, kind.value, target), "check": [f"surgery plugins check {target}"]}
    if kind.value != "watcher":
        given = "" if package else f" --plugin {target}"
        steps["show"] = [f"surgery plugins show {name}{given}"]
    if package:
        steps = {"install": [f"pip install -e '{target}[test]' && pytest {target}"], **steps}
    terminal().print(begun_view(files, steps), soft_wrap=True)


@app.command()
def check(
    what: Annotated[str, typer.Argument(metavar="PLUGIN", help="A file, a folder, or the name of an installed one.")],
    sample: Annotated[list[Path], typer.Option(metavar="FILE", help="A file for readers to read. Repeatable.")] = [],  # noqa: B006
) -> None:
    """Hold everything that a plugin offers against what its kind promises. Exit code 1 where a promise is broken."""
    plugins = _found(what)
    from surgery.cli.tables import Doing, Text, check_result_view, terminal
    from surgery.testing import run_checks

    logging.getLogger("cmap").setLevel(logging.ERROR)  # it remarks on names that have several meanings
    console = terminal()
    kept = broken = 0
    with Doing() as doing:
        for plugin in plugins:
            for result in run_checks(plugin, sample, doing):
                kept += not result.violations
                broken += len(result.violations)
                # Of the catalog of colormaps only what is wrong is worth a line.
                if result.violations or not (plugin.origin == "built in" and result.kind == "colormap"):
                    doing("")
                    console.print(check_result_view(result), soft_wrap=True)
    said = ["1 thing keeps its promises" if kept == 1 else f"{kept} things keep their promises"] if kept else []
    said += ["1 promise is broken" if broken == 1 else f"{broken} promises are broken"] if broken else []
    console.print(Text(", ".join(said) or f"{what} offers nothing"))
    if broken or not kept:
        raise typer.Exit(1)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of what a plugin offers: ember, grid:columns=2, topk.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it so
        typer.Option("--out", "-o", metavar="FILE", help="Save the picture as PNG."),
    ] = None,
    plugin: PluginFiles = [],  # noqa: B006
    no_plugin: NoPlugin = [],  # noqa: B006
    no_plugins: NoPlugins = False,
    strict_plugins: Strict = False,
    trust: Trusting = False,
) -> None:
    """Show what a name stands for: who offers it, its options, and a sample of what it does."""
    plugins = open_plugins(plugin, no_plugin, no_plugins, strict_plugins, trust)
    from surgery.cli.samples import Sample, sample_of
    from surgery.cli.tables import Text, entry_view, terminal
    from surgery.plugins import call_plugin, find_entries

    entries = find_entries(name, plugins)
    pictures = []
    console = terminal()
    for number, entry in enumerate(entries):
        said = f"{entry.kind} {entry.name} can't be shown:"
        sample, _ = call_plugin(said, partial(sample_of, entry.kind, entry.value))
        assert isinstance(sample, Sample)  # noqa: S101
        pictures += [sample.image] if sample.image is not None else []
        if number:
            console.print()
        console.print(entry_view(entry, sample))
    if out is None:
        return
    if not pictures:
        raise PluginError(f"{name} has no picture to save; it is a {entries[0].kind}")
    from surgery.output import write_atomically

    with write_atomically(out) as path:
        pictures[0].save(path, "PNG")
    console.print(Text(f"{out}  {pictures[0].width}x{pictures[0].height}"))


@app.command(name="trust")
def trust_project(
    forget: Annotated[bool, typer.Option("--forget", help="Trust them no more.")] = False,
) -> None:
    """Let the plugins run that the pyproject.toml here names, as long as no file of theirs changes."""
    from surgery.cli.tables import Text, terminal
    from surgery.plugins import compute_digests, find_plugin_files, find_requests, forget_trust, record_trust

    asked, wrong = find_requests(Path.cwd())
    if wrong:
        raise PluginError(wrong[0])
    local = [request.path for request in asked if request.is_local]
    if not local:
        raise PluginError("no pyproject.toml here or above names plugins under [tool.surgery]")
    console = terminal()
    for path in local:
        if forget:
            console.print(
                Text(f"{path}  {'trusted no more' if forget_trust(path) else 'was not trusted'}"), soft_wrap=True
            )
            continue
        files = compute_digests(find_plugin_files(path))
        record_trust(path, files, trusted=True)
        for file in files:
            console.print(Text.assemble((file, "bold"), "  trusted"), soft_wrap=True)


def _found(what: str) -> list[Plugin]:
    """The plugins of a file, of a folder, or the installed one of that name, none of them imported yet."""
    from surgery.plugins import BUILTIN, create_builtin_plugin, find_installed_plugins, find_plugins_at, normalize_name

    if what == BUILTIN:
        return [create_builtin_plugin()]
    path = Path(what)
    if os.path.exists(path) or path.suffix == ".py" or len(path.parts) > 1:  # noqa: PTH110 - a Path raises for long names
        return find_plugins_at(path)
    there = find_installed_plugins()
    chosen = [plugin for plugin in there if normalize_name(plugin.name) == normalize_name(what)]
    if chosen:
        return chosen
    names = [BUILTIN, *(plugin.name for plugin in there)]
    near = did_you_mean(what, names) or f"; installed are {', '.join(names)}"
    raise PluginError(f"no plugin is called {what!r}, and there is no such file{near}")
