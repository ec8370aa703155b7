"""Views of plugins: the list of them, a new one, the result of a check, one value that a plugin offers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table

from surgery.cli.console import Text
from surgery.cli.tables import format_names
from surgery.plugins import format_option_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from surgery.cli.plugin_previews import Preview
    from surgery.plugins import CatalogEntry, Kind, Plugins
    from surgery.testing import CheckResult

_STATES = {
    "broken": ("  left out", "bold red"),
    "blocked": ("  blocked", "yellow"),
    "untrusted": ("  not trusted, not run", "yellow"),
}


def plugins_view(plugins: Plugins, kinds: Sequence[Kind]) -> RenderableType:
    """Return a view of every plugin: its name, its version, its state, and the names that it offers by kind."""
    parts: list[RenderableType] = []
    offered = {kind: {owner.name: list(values) for owner, values in plugins.list_offers(kind)} for kind in kinds}
    for plugin in plugins.plugins:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for kind in kinds:
            if names := offered[kind].get(plugin.name):
                table.add_row(f"  {kind}s", Text(format_names(names)))
        for problem in plugin.problems:
            table.add_row("", Text(problem, style="red"))
        version = f" {plugin.version}" if plugin.version else ""
        origin = f"  {plugin.origin}" if plugin.origin != plugin.name else ""
        state = _STATES.get(plugin.state, "")
        parts += [Text.assemble((plugin.name, "bold"), version, (origin, "dim"), state), table]
    return Group(*parts)


def new_plugin_view(files: Sequence[Path], steps: Mapping[str, Sequence[str]]) -> RenderableType:
    """Return a view of the files of a new plugin, and of the commands to run next, by the name of the step."""
    lines = [Text(str(file), style="bold green") for file in files]
    step_width = max(map(len, steps))
    for step, commands in steps.items():
        for number, command in enumerate(commands):
            lines.append(Text.assemble((f"  {'' if number else step:{step_width}}  ", "dim"), command))
    return Group(*lines)


def check_result_view(result: CheckResult) -> RenderableType:
    """Return a view of the check of one value: `ok`, or a line for each broken promise."""
    value = Text.assemble((f"{result.kind} ", "dim"), (result.name, "bold"), "  ")
    if not result.violations:
        return Text.assemble(value, ("ok", "green"))
    return Group(*(Text.assemble(value, (violation, "red")) for violation in result.violations))


def entry_view(entry: CatalogEntry, preview: Preview) -> RenderableType:
    """Return a view of one value that a plugin offers: its kind, its plugin, its options, and a preview."""
    plugin = entry.plugin
    plugin_name = " ".join(filter(None, (plugin.name, plugin.version)))
    origin = f"  {plugin.origin}" if plugin.origin != plugin.name else ""
    parts: list[RenderableType] = [
        Text.assemble((entry.name, "bold"), f"  {entry.kind}  ", (f"{plugin_name}{origin}", "dim"))
    ]
    if entry.summary:
        parts.append(Text(entry.summary))
    if entry.options:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold", ratio=2)
        table.add_column(overflow="fold", ratio=3)
        for option in entry.options:
            default = Text.assemble(f"  {option.name}=", (format_option_value(option.default), "cyan"))
            table.add_row(default, Text(option.expected), Text(entry.option_notes.get(option.name, ""), style="dim"))
        parts.append(table)
    parts += [Text(line, style="dim") for line in preview.lines]
    if preview.image is not None:
        from surgery.cli.terminal_pictures import TerminalPicture

        parts.append(TerminalPicture(preview.image))
    return Group(*parts)
