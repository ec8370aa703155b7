"""Tables for the terminal: what a run found, which plugins there are. Nothing here needs torch."""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import IO, TYPE_CHECKING, Any, Self, cast

from rich.console import Console, Group
from rich.table import Column, Table
from rich.text import Text as RichText

from surgery.cli.streams import Stream
from surgery.output import layout_notes, layout_remark
from surgery.plugins import format_option_value
from surgery.text import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rich.console import JustifyMethod, RenderableType

    from surgery.cli.samples import Sample
    from surgery.output import Progress, Report
    from surgery.plugins import CatalogEntry, Kind, Plugins
    from surgery.testing import CheckResult
    from surgery.types import TensorSpec
    from surgery.verification import Certificate, Comparison

_PIPED_WIDTH = 160


class Text(RichText):
    """Text in one line, whatever characters are in it: names and messages come from files, models and plugins."""

    def __init__(self, text: str = "", *options: Any, **more: Any) -> None:
        super().__init__(escape_unprintable(text), *options, **more)

    def append(self, text: RichText | str, style: Any = None) -> Self:
        """Add text at the end."""
        super().append(escape_unprintable(text) if isinstance(text, str) else text, style)
        return self

    @classmethod
    def assemble(cls, *parts: Any, **options: Any) -> Self:
        """Text of parts, each a text or a pair of a text and its style."""
        return cast("Self", super().assemble(*parts, **options))


def terminal(*, stderr: bool = False) -> Console:
    """The console of this terminal; where output is piped, wide enough for every column.

    What it prints is text as it is, without markup.
    """
    stream = sys.stderr if stderr else sys.stdout
    file = cast("IO[str]", Stream(stream)) if stream is not None else None
    plain: dict[str, Any] = {"file": file, "stderr": stderr, "markup": False, "emoji": False, "highlight": False}
    console = Console(**plain)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(**plain, width=_PIPED_WIDTH)
    elif console.is_dumb_terminal:  # which rich takes for one of 80 columns
        console = Console(**plain, width=shutil.get_terminal_size().columns, height=25)
    return console


def report_view(report: Report, width: int) -> RenderableType:
    """What a run found, and where its files are."""
    rows: list[dict[str, Text]] = []
    for summary in report.summaries:
        operation, facts = summary.operation, summary.facts
        remarks = [f"{facts.constant_channels}/{facts.channels} constant"] if facts.constant_channels else []
        remarks += ["NaN"] * facts.nan + ["infinite"] * facts.inf
        remarks += [f"in {summary.pictures} parts"] if summary.pictures > 1 else []
        remarks += [layout] if (layout := layout_remark(summary)) else []
        rows.append(
            {
                "": Text(f"{operation.index:03}", style="dim"),
                "operation": Text(operation.path, style="bold"),
                "kind": Text(operation.kind, style="cyan"),
                "shape": Text(shapes(operation.tensors)),
                "range": Text("" if facts.min is None else f"{facts.min:.3g} … {facts.max:.3g}"),
                "remarks": Text(", ".join(remarks), style="bold red" if facts.nan or facts.inf else "yellow"),
            }
        )
    table = fitted(rows, ["", "operation", "kind", "shape", "range", "remarks"], width)
    said = [_counted(report.images, "image"), _counted(report.files, "file")]
    said += [f"{report.seconds:.1f} s"]
    notes = [Text(line, style="dim") for line in layout_notes(report.summaries)]
    done = Text.assemble((f"{report.folder}/", "bold green"), f"  {', '.join(said)}")
    if not report.images:
        done = Text("no image was finished, and nothing was written", style="bold yellow")
    if report.interrupted:
        done.append("  interrupted: what was finished is there", style="bold yellow")
    last = [Text.assemble(("look at ", "dim"), f"{report.overview}")] if report.overview is not None else []
    return Group(table, Text(), *notes, done, *last) if rows else done


def certificate_view(certificate: Certificate) -> RenderableType:
    """What was compared, in which cases, and whether all of it is the same."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    comparisons = certificate.comparisons
    cases = list(dict.fromkeys((c.mode, c.case) for c in comparisons if c.mode))
    table.add_column("")
    for mode, case in cases:
        table.add_column(f"{mode}\n{case.replace('x', '×') if case[0].isdigit() else case}", justify="right")
    found = {(c.what, c.mode, c.case): c for c in comparisons}
    for what in dict.fromkeys(c.what for c in comparisons if c.mode):
        table.add_row(Text(what), *(_verdict(found.get((what, *case))) for case in cases))
    title = Text(f"{certificate.model}: {certificate.operations} operations, {certificate.extracted} extracted")
    lines = [Text.assemble(f"{c.what}  ", _verdict(c)) for c in comparisons if not c.mode]
    unsure = [f"{c.what} ({c.mode}, {c.case}): {c.difference}" for c in comparisons if c.same is None and c.difference]
    lines += [Text(line, style="yellow") for line in unsure]
    if certificate.same:
        lines.append(Text("the same, bit for bit", style="bold green"))
    else:
        lines.append(Text(f"not the same: {certificate.difference}", style="bold red"))
    return Group(title, Text(), table, Text(), *lines)


def _verdict(comparison: Comparison | None) -> Text:
    if comparison is None or comparison.same is None:
        return Text("–", style="dim")
    return Text(f"{comparison.count} ✓", style="green") if comparison.same else Text("✗", style="bold red")


def plugins_view(plugins: Plugins, kinds: Sequence[Kind]) -> RenderableType:
    """Every plugin with what it offers."""
    parts: list[RenderableType] = []
    offered = {kind: {owner.name: list(values) for owner, values in plugins.list_offers(kind)} for kind in kinds}
    for plugin in plugins.plugins:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for kind in kinds:
            if names := offered[kind].get(plugin.name):
                table.add_row(f"  {kind}s", Text(_some(names)))
        state = _STATES.get(plugin.state, "")
        for fault in plugin.problems:
            table.add_row("", Text(fault, style="red"))
        version = f" {plugin.version}" if plugin.version else ""
        origin = f"  {plugin.origin}" if plugin.origin != plugin.name else ""
        parts += [Text.assemble((plugin.name, "bold"), version, (origin, "dim"), state), table]
    return Group(*parts)


_STATES = {
    "broken": ("  left out", "bold red"),
    "blocked": ("  blocked", "yellow"),
    "untrusted": ("  not trusted, not run", "yellow"),
}


def begun_view(files: Sequence[Path], steps: Mapping[str, Sequence[str]]) -> RenderableType:
    """The files of a plugin that was begun, and the commands to go on with."""
    lines = [Text(str(file), style="bold green") for file in files]
    wide = max(map(len, steps))
    for step, commands in steps.items():
        for number, command in enumerate(commands):
            lines.append(Text.assemble((f"  {'' if number else step:{wide}}  ", "dim"), command))
    return Group(*lines)


def check_result_view(result: CheckResult) -> RenderableType:
    """A thing that was checked: `ok`, or a line for each promise that it breaks."""
    what = Text.assemble((f"{result.kind} ", "dim"), (result.name, "bold"), "  ")
    if not result.violations:
        return Text.assemble(what, ("ok", "green"))
    return Group(*(Text.assemble(what, (violation, "red")) for violation in result.violations))


def entry_view(entry: CatalogEntry, sample: Sample) -> RenderableType:
    """What a name stands for: of which kind, whose, its options, and a sample."""
    owner = entry.plugin
    whose = " ".join(filter(None, (owner.name, owner.version)))
    where = f"  {owner.origin}" if owner.origin != owner.name else ""
    parts: list[RenderableType] = [Text.assemble((entry.name, "bold"), f"  {entry.kind}  ", (f"{whose}{where}", "dim"))]
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
    parts += [Text(line, style="dim") for line in sample.said]
    if sample.image is not None:
        from surgery.cli.terminal_pictures import Blocks

        parts.append(Blocks(sample.image))
    return Group(*parts)


def export(view: RenderableType, width: int, kind: str, title: str) -> str:
    """What would be printed, as a document of kind "svg" or "html" that refers to nothing outside itself."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        console = Console(
            record=True,
            width=width,
            file=nowhere,
            force_terminal=True,
            color_system="truecolor",
            markup=False,
            emoji=False,
            highlight=False,
        )
        console.print(view)
        if kind == "html":
            return console.export_html()
        return re.sub(r"@font-face\s*\{[^}]*\}", "", console.export_svg(title=escape_unprintable(title)))


def fitted(rows: Sequence[dict[str, Text]], columns: Sequence[str], width: int) -> Table:
    """A table of the columns, the most useful first, as far as there is room for them."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    room = width
    for number, column in enumerate(columns):
        cells = [row[column].cell_len for row in rows if column in row]
        if number and not any(cells):
            continue
        wide = max([len(column), *cells])
        # What is longer than the room may be cut, if a good part of it is left; the first column always stays.
        if number and room < min(wide, 12):
            break
        shown = min(wide, max(room, 12))
        justify: JustifyMethod = "right" if column in _NUMBERS else "left"
        table.add_column(column, width=shown, no_wrap=True, overflow="ellipsis", justify=justify)
        room -= shown + 2
    for row in rows:
        table.add_row(*(row.get(str(column.header), Text()) for column in table.columns))
    return table


_NUMBERS = ("", "size", "range")


def shapes(tensors: tuple[TensorSpec, ...] | None) -> str:
    """The shapes of a value, as far as they are known."""
    if tensors is None:
        return ""
    if len(tensors) > 3:
        return f"{len(tensors)} tensors"
    return ", ".join("×".join(map(str, spec.shape)) or "scalar" for spec in tensors)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _some(names: Sequence[str], most: int = 24) -> str:
    shown = [name for name in names if ":" not in name] or list(names)
    said = ", ".join(shown[:most])
    return f"{said} and {len(names) - most} more" if len(names) > most else said


class Bar:
    """A progress bar on stderr, where that is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = terminal(stderr=True)
        self.bar = Progress(
            TextColumn(
                "{task.description}", markup=False, table_column=Column(max_width=40, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("extracting", total=total)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def advance(self, progress: Progress) -> None:
        self.bar.update(
            self.task, completed=progress.done + progress.failed, description=escape_unprintable(progress.image)
        )


class Doing:
    """A line on stderr, where that is a terminal, that says what is being done; nothing stays of it."""

    def __init__(self) -> None:
        self.console = terminal(stderr=True)
        self.status = self.console.status("", spinner="line") if self.console.is_terminal else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self("")

    def __call__(self, what: str) -> None:
        if self.status is None:
            return
        if what:
            self.status.update(Text(what))
            self.status.start()
        else:
            self.status.stop()
