"""Graphs and results in the terminal."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from surgery.tracing import is_extractor, operation_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import JustifyMethod, RenderableType
    from torch import fx

    from surgery.extraction import Report
    from surgery.plugins import Kind, Plugins
    from surgery.types import Operation

EXTRACTOR = "◉ ActivationExtractor"
_EXTRACTOR_STYLE = "bold magenta"
_PIPED_WIDTH = 160
_ITEM_SIZES = {"64": 8, "32": 4, "16": 2, "8": 1, "bool": 1, "complex64": 8, "complex128": 16}


def show(graph_module: fx.GraphModule, *, console: Console | None = None) -> None:
    """Print a graph, rewritten or not: a tree by module, with every operation and the inserted extractors."""
    console = console or terminal()
    console.print(graph_view(graph_module, console.width))


def terminal(*, stderr: bool = False) -> Console:
    """The console of this terminal; where output is piped, wide enough for every column."""
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(stderr=stderr, width=_PIPED_WIDTH)
    return console


def graph_view(graph_module: fx.GraphModule, width: int) -> RenderableType:
    """What `show` prints, for a console so many columns wide: the less there is room for, the fewer columns."""
    known = list(operation_nodes(graph_module))
    inserted = extracted(graph_module)
    rows: list[dict[str, Text]] = []
    for guide, label, operation in _lines(_tree([operation for _, operation in known]), ""):
        if operation is None:
            rows.append({"operation": Text.assemble((guide, "dim"), (label, "bold"))})
            continue
        rows.append(
            {
                "operation": Text.assemble((guide, "dim"), label),
                "kind": Text(operation.kind, style="cyan"),
                "shape": Text(_shape(operation)),
                "size": Text(_bytes(_size(operation)), style="dim"),
                "dtype": Text(operation.dtype or "", style="dim"),
                "line": Text("/".join((operation.source or "").split("/")[-2:]), style="dim"),
            }
        )
        if operation.name in inserted:
            below = guide.replace("├─ ", "│  ").replace("└─ ", "   ")
            rows.append({"operation": Text.assemble((below, "dim"), (f"└▸ {EXTRACTOR}", _EXTRACTOR_STYLE))})
    summary = _summary(graph_module, [operation for _, operation in known], len(inserted))
    return Group(_fitted(rows, ["operation", "kind", "shape", "size", "dtype", "line"], width), Text(), summary)


def _fitted(rows: Sequence[dict[str, Text]], columns: Sequence[str], width: int) -> Table:
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


def extracted(graph_module: fx.GraphModule) -> set[str]:
    """Names of the operations that an extractor stands behind."""
    return {node.args[0].name for node in graph_module.graph.nodes if is_extractor(graph_module, node)}


def code_view(graph_module: fx.GraphModule) -> RenderableType:
    """The Python that torch.fx generated, with the lines marked that call an extractor."""
    names = {node.name for node in graph_module.graph.nodes if is_extractor(graph_module, node)}
    lines = graph_module.code.strip("\n").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.strip().partition(" = ")[0] in names}
    shown = [f"{line}  # ◉" if number in marked else line for number, line in enumerate(lines, 1)]
    return Syntax("\n".join(shown), "python", theme="ansi_dark", background_color="default", highlight_lines=marked)


def graph_record(graph_module: fx.GraphModule) -> list[dict[str, Any]]:
    """Every operation as plain values, for machines."""
    inserted = extracted(graph_module)
    return [
        {
            "index": operation.index,
            "name": operation.name,
            "path": operation.path,
            "kind": operation.kind,
            "scopes": list(operation.scopes),
            "source": operation.source,
            "tensors": None
            if operation.tensors is None
            else [{"key": spec.key, "shape": list(spec.shape), "dtype": spec.dtype} for spec in operation.tensors],
            "extracted": operation.name in inserted,
        }
        for _, operation in operation_nodes(graph_module)
    ]


def report_view(report: Report, width: int) -> RenderableType:
    """What a run found, and where its files are."""
    rows: list[dict[str, Text]] = []
    for finding in report.findings:
        operation, facts = finding.operation, finding.facts
        remarks = [f"{facts.constant_channels}/{facts.channels} constant"] if facts.constant_channels else []
        remarks += ["NaN"] * facts.nan + ["infinite"] * facts.inf
        rows.append(
            {
                "": Text(f"{operation.index:03}", style="dim"),
                "operation": Text(operation.path, style="bold"),
                "kind": Text(operation.kind, style="cyan"),
                "shape": Text(_shape(operation)),
                "range": Text("" if facts.min is None else f"{facts.min:.3g} … {facts.max:.3g}"),
                "remarks": Text(", ".join(remarks), style="bold red" if facts.nan or facts.inf else "yellow"),
            }
        )
    table = _fitted(rows, ["", "operation", "kind", "shape", "range", "remarks"], width)
    said = [f"{report.images} {'image' if report.images == 1 else 'images'}", f"{report.files} files"]
    said += [f"{report.seconds:.1f} s"]
    done = Text.assemble("\n", (f"{report.folder}/", "bold green"), f"  {', '.join(said)}")
    if report.interrupted:
        done.append("  interrupted: what was finished is there", style="bold yellow")
    return Group(table, done)


def plugins_view(plugins: Plugins, kinds: Sequence[Kind]) -> RenderableType:
    """Every plugin with what it offers."""
    parts: list[RenderableType] = []
    for plugin in plugins.plugins:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for kind in kinds:
            names = [list(values) for owner, values in plugins.offered(kind) if owner is plugin]
            if names and names[0]:
                table.add_row(f"  {kind}s", _some(names[0]))
        parts += [Text.assemble((plugin.name, "bold"), f" {plugin.version}  ", (plugin.origin, "dim")), table]
    return Group(*parts)


def export(view: RenderableType, width: int, kind: str, title: str) -> str:
    """What would be printed, as a document of kind "svg" or "html" that refers to nothing outside itself."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        console = Console(record=True, width=width, file=nowhere, force_terminal=True, color_system="truecolor")
        console.print(view)
        if kind == "html":
            return console.export_html()
        return re.sub(r"@font-face\s*\{[^}]*\}", "", console.export_svg(title=title))


@dataclass(slots=True)
class _Branch:
    label: str
    scope: str
    twigs: list[_Branch | tuple[str, Operation]] = field(default_factory=list)


def _tree(operations: Sequence[Operation]) -> _Branch:
    """Operations in order of execution, under the modules that they are in."""
    root = _Branch("", "")
    path = [root]
    for operation in operations:
        modules = operation.scopes
        if modules and operation.path.partition("@")[0] == modules[-1]:
            modules = modules[:-1]
        shared = 0
        while shared < min(len(modules), len(path) - 1) and path[shared + 1].scope == modules[shared]:
            shared += 1
        del path[shared + 1 :]
        for scope in modules[shared:]:
            branch = _Branch(_relative(scope, path[-1].scope), scope)
            path[-1].twigs.append(branch)
            path.append(branch)
        path[-1].twigs.append((_relative(operation.path, path[-1].scope), operation))
    return root


def _relative(path: str, scope: str) -> str:
    return path.removeprefix(f"{scope}.") if scope else path


def _lines(branch: _Branch, guide: str) -> Iterator[tuple[str, str, Operation | None]]:
    for number, twig in enumerate(branch.twigs):
        last = number == len(branch.twigs) - 1
        mark = "└─ " if last else "├─ "
        if isinstance(twig, _Branch):
            yield guide + mark, twig.label, None
            yield from _lines(twig, guide + ("   " if last else "│  "))
        else:
            yield guide + mark, *twig


def _summary(graph_module: fx.GraphModule, operations: Sequence[Operation], inserted: int) -> Text:
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    said = [f"{len(operations)} operations", f"{inserted} extracted", f"{_count(parameters)} parameters"]
    size = sum(_size(operation) or 0 for operation in operations)
    said += [f"{_bytes(size)} of values"] if size else []
    return Text(", ".join(said))


def _shape(operation: Operation) -> str:
    if operation.tensors is None:
        return ""
    if len(operation.tensors) > 3:
        return f"{len(operation.tensors)} tensors"
    return ", ".join("×".join(map(str, spec.shape)) or "scalar" for spec in operation.tensors)


def _size(operation: Operation) -> int | None:
    """Bytes of an operation's value; None where it is not known."""
    if not operation.tensors:
        return None
    total = 0
    for spec in operation.tensors:
        count = 1
        for side in spec.shape:
            count *= side
        item = _ITEM_SIZES.get(spec.dtype) or next(
            (size for bits, size in _ITEM_SIZES.items() if spec.dtype.endswith(bits)), 1
        )
        total += count * item
    return total


def _bytes(size: int | None) -> str:
    if size is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def _count(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)


def _some(names: Sequence[str], most: int = 24) -> str:
    shown = [name for name in names if ":" not in name] or list(names)
    said = ", ".join(shown[:most])
    return f"{said} and {len(names) - most} more" if len(names) > most else said
