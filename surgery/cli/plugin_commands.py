"""The commands about plugins: list them, start one, check one, show what one offers, trust those of a project."""

from __future__ import annotations

import json
import logging
import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from surgery.cli.option_groups import expand_option_groups
from surgery.cli.options import JsonOption, PluginOptions
from surgery.cli.standard_streams import print_output
from surgery.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from surgery.plugins import Plugin

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


class NewPluginKind(StrEnum):
    """The kinds of plugin that `plugins new` has a template for."""

    transform = "transform"
    normalizer = "normalizer"
    tiler = "tiler"
    colormap = "colormap"
    edit = "edit"
    measure = "measure"
    sink = "sink"
    model = "model"
    checkpoint = "checkpoint"
    reader = "reader"
    engine = "engine"
    watcher = "watcher"


@app.callback(invoke_without_command=True)
@expand_option_groups
def list_plugins(
    context: typer.Context,
    as_json: JsonOption = False,
    *,
    plugin_options: PluginOptions,
) -> None:
    """List every plugin with what it offers; start a new one, check one, show what one offers."""
    if context.invoked_subcommand is not None:
        if as_json or plugin_options.are_given:
            raise typer.BadParameter(f"options go after {context.invoked_subcommand}, not before it")
        return
    from surgery.cli.console import open_console
    from surgery.cli.plugin_views import plugins_view
    from surgery.plugins import KINDS

    plugins = plugin_options.open()
    plugins.check()
    if not as_json:
        open_console().print(plugins_view(plugins, KINDS))
        return
    entries = [
        {
            "name": entry.name,
            "version": entry.version,
            "origin": entry.origin,
            "state": entry.state,
            "faults": entry.problems,
            **{
                f"{kind}s": [name for owner, values in plugins.list_offers(kind) if owner is entry for name in values]
                for kind in KINDS
            },
        }
        for entry in plugins.plugins
    ]
    print_output(json.dumps(entries, indent=1))


@app.command()
@expand_option_groups
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the plugin, and of the value it offers.")],
    kind: Annotated[
        NewPluginKind,
        typer.Option(
            metavar="KIND",
            help="transform, normalizer, tiler, colormap, edit, measure, sink, model, checkpoint, reader or engine, "
            "which is what the plugin offers; or watcher, which is called during every run.",
        ),
    ],
    package: Annotated[
        bool, typer.Option("--package", help="Write a package that pip can install, not a single file.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write to.")] = Path(),
    *,
    plugin_options: PluginOptions,
) -> None:
    """Start a plugin: a file that works at once, or with --package a distribution with its test."""
    from surgery.cli.console import open_console
    from surgery.cli.plugin_views import new_plugin_view
    from surgery.plugins import commands_to_try, write_plugin

    plugins = plugin_options.open()
    target = write_plugin(name, kind.value, out, package=package, known=plugins)
    files = sorted(file for file in target.rglob("*") if file.is_file()) if package else [target]
    steps = {"try": commands_to_try(name, kind.value, target), "check": [f"surgery plugins check {target}"]}
    if kind.value != "watcher":
        option = "" if package else f" --plugin {target}"
        steps["show"] = [f"surgery plugins show {name}{option}"]
    if package:
        steps = {"install": [f"pip install -e '{target}[test]' && pytest {target}"], **steps}
    open_console().print(new_plugin_view(files, steps), soft_wrap=True)


@app.command()
def check(
    what: Annotated[str, typer.Argument(metavar="PLUGIN", help="A file, a folder, or the name of an installed one.")],
    sample: Annotated[list[Path], typer.Option(metavar="FILE", help="A file for readers to read. Repeatable.")] = [],  # noqa: B006
) -> None:
    """Test everything that a plugin offers against the promises of its kind. Exit code 1 if one is broken."""
    plugins = _find_plugins(what)
    from surgery.cli.console import Text, open_console
    from surgery.cli.plugin_views import check_result_view
    from surgery.cli.progress import StatusLine
    from surgery.testing import run_checks

    logging.getLogger("cmap").setLevel(logging.ERROR)  # cmap warns about names with several meanings
    console = open_console()
    sound = broken = 0
    with StatusLine() as status:
        for plugin in plugins:
            for result in run_checks(plugin, sample, status):
                sound += not result.violations
                broken += len(result.violations)
                # The catalog of colormaps has over a thousand entries: only its faults are printed.
                if result.violations or not (plugin.origin == "built in" and result.kind == "colormap"):
                    status("")
                    console.print(check_result_view(result), soft_wrap=True)
    counts = ["1 thing keeps its promises" if sound == 1 else f"{sound} things keep their promises"] if sound else []
    counts += ["1 promise is broken" if broken == 1 else f"{broken} promises are broken"] if broken else []
    console.print(Text(", ".join(counts) or f"{what} offers nothing"))
    if broken or not sound:
        raise typer.Exit(1)


@app.command()
@expand_option_groups
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that a plugin offers: ember, grid:columns=2.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Save the picture as PNG."),
    ] = None,
    *,
    plugin_options: PluginOptions,
) -> None:
    """Show what a name stands for: the plugin that offers it, its options, and a preview."""
    plugins = plugin_options.open()
    from surgery.cli.console import Text, open_console
    from surgery.cli.plugin_previews import Preview, preview
    from surgery.cli.plugin_views import entry_view
    from surgery.plugins import call_plugin, find_entries

    entries = find_entries(name, plugins)
    pictures = []
    console = open_console()
    for number, entry in enumerate(entries):
        action = f"{entry.kind} {entry.name} can't be shown:"
        result, _ = call_plugin(action, partial(preview, entry.kind, entry.value))
        assert isinstance(result, Preview)  # noqa: S101
        pictures += [result.image] if result.image is not None else []
        if number:
            console.print()
        console.print(entry_view(entry, result))
    if out is None:
        return
    if not pictures:
        kind = entries[0].kind
        raise PluginError(f"{name} has no picture to save; it is {'an' if kind[0] in 'aeiou' else 'a'} {kind}")
    from surgery.output import write_atomically

    with write_atomically(out) as path:
        pictures[0].save(path, "PNG")
    console.print(Text(f"{out}  {pictures[0].width}x{pictures[0].height}"))


@app.command(name="trust")
def trust_project(
    forget: Annotated[bool, typer.Option("--forget", help="Forget that they were trusted.")] = False,
) -> None:
    """Allow the plugins that pyproject.toml names to run, as long as none of their files changes."""
    from surgery.cli.console import Text, open_console
    from surgery.plugins import compute_digests, find_plugin_files, find_requests, forget_trust, record_trust

    found, errors = find_requests(Path.cwd())
    if errors:
        raise PluginError(errors[0])
    paths = [request.path for request in found if request.needs_trust]
    if not paths:
        raise PluginError("no pyproject.toml here or above names plugins under [tool.surgery]")
    console = open_console()
    for path in paths:
        if forget:
            state = "trusted no more" if forget_trust(path) else "was not trusted"
            console.print(Text(f"{path}  {state}"), soft_wrap=True)
            continue
        files = compute_digests(find_plugin_files(path))
        record_trust(path, files, trusted=True)
        for file in files:
            console.print(Text.assemble((file, "bold"), "  trusted"), soft_wrap=True)


def _find_plugins(what: str) -> list[Plugin]:
    """Return the plugins of a file or a folder, or the installed one of that name; none of them is imported yet."""
    from surgery.plugins import BUILTIN, create_builtin_plugin, find_installed_plugins, find_plugins_at, normalize_name

    if what == BUILTIN:
        return [create_builtin_plugin()]
    path = Path(what)
    if os.path.exists(path) or path.suffix == ".py" or len(path.parts) > 1:  # noqa: PTH110 - a Path raises for long names
        return find_plugins_at(path)
    candidates = find_installed_plugins()
    chosen = [plugin for plugin in candidates if normalize_name(plugin.name) == normalize_name(what)]
    if chosen:
        return chosen
    names = [BUILTIN, *(plugin.name for plugin in candidates)]
    hint = did_you_mean(what, names) or f"; installed are {', '.join(names)}"
    raise PluginError(f"no plugin is called {what!r}, and there is no such file{hint}")
