"""Graphs in the terminal."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.syntax import Syntax

from surgery.cli.tables import Text, shapes, terminal
from surgery.graph import Outline, find_edges, is_extractor, operation_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType
    from torch import fx

    from surgery.graph import Edges, OutlineRow, ValueSource
    from surgery.types import Operation, TensorSpec

EXTRACTOR = "◉ ActivationExtractor"
_EXTRACTOR_STYLE = "bold magenta"
_ITEM_SIZES = {"64": 8, "32": 4, "16": 2, "8": 1, "bool": 1, "complex64": 8, "complex128": 16}
_ROOM = {"shape": (12, 32), "kind": (8, 24), "size": (9, 9), "dtype": (8, 16), "line": (12, 48)}
"""Of each column, in the order in which they are given room: the least that it is shown in, and the most it takes."""


def show(
    graph_module: fx.GraphModule, *, depth: int | None = None, fold: bool = True, console: Console | None = None
) -> None:
    """Print a graph, rewritten or not: a tree by module, with its input, every operation, and inserted extractors.

    What an operation takes stands behind an arrow where it is not simply the value of the row before. `depth` is how
    many levels of modules are opened, None for all. With `fold`, three and more blocks in a row that are alike, but for
    their weights, are shown as one.
    """
    console = console or terminal()
    console.print(graph_view(graph_module, console.width, depth=depth, fold=fold))


def graph_view(
    graph_module: fx.GraphModule, width: int, *, depth: int | None = None, fold: bool = True
) -> RenderableType:
    """What `show` prints, for a console so many columns wide: the less there is room for, the fewer columns."""
    operations = [operation for _, operation in operation_nodes(graph_module)]
    inserted = extracted(graph_module)
    edges = find_edges(graph_module)
    outline = Outline(operations, edges, inserted, depth=depth, fold=fold)
    lines = [_Line(Text(source.path), _cells("input", source.tensors)) for source in edges.inputs]
    limit = max(24, width * 45 // 100)
    for row in outline.rows():
        lines += _lines_of(row, edges, limit)
    summary = _summary(graph_module, operations, len(inserted), outline.folded)
    return Group(*_laid_out(lines, width), Text(), summary)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the view: its first column, and the others by name."""

    label: Text
    cells: Mapping[str, Text] = field(default_factory=dict)


def _lines_of(row: OutlineRow, edges: Edges, limit: int) -> Iterator[_Line]:
    """The line of a row, and below it what has no room in it: what it takes, and the extractor behind it."""
    label = Text.assemble(
        (row.tree_prefix, "dim"), (row.label, "" if row.operations or not row.tree_prefix else "bold")
    )
    cells: Mapping[str, Text] = {}
    if len(row.operations) == 1:
        (operation,) = row.operations
        cells = _cells(operation.kind, operation.tensors, operation)
    elif row.operations:
        cells = _cells(f"{len(row.operations)} operations", row.operations[-1].tensors)
        cells = {**cells, "size": Text(_bytes(_sum(row.operations) or None), style="dim")}
    elif not row.tree_prefix:
        tensors = [source.tensors for source in edges.output]
        cells = _cells("output", None if None in tensors else tuple(spec for each in tensors for spec in each or ()))
    below = row.tree_prefix.replace("├─ ", "│  ").replace("└─ ", "   ")
    arrow = f"← {', '.join(row.operands)}"
    inline = bool(row.operands) and label.cell_len + 1 + len(arrow) <= limit
    yield _Line(Text.assemble(label, (f" {arrow}", "dim")) if inline else label, cells)
    if row.operands and not inline:
        yield _Line(Text.assemble((f"{below}{arrow}", "dim")))
    if row.extracted:
        many = f"◉ {row.extracted} ActivationExtractors" if row.extracted > 1 else EXTRACTOR
        yield _Line(Text.assemble((below, "dim"), (f"└▸ {many}", _EXTRACTOR_STYLE)))


def _cells(kind: str, tensors: tuple[TensorSpec, ...] | None, operation: Operation | None = None) -> Mapping[str, Text]:
    dtypes = {spec.dtype for spec in tensors or ()}
    source = operation.source if operation is not None else None
    return {
        "kind": Text(kind, style="cyan"),
        "shape": Text(shapes(tensors)),
        "size": Text(_bytes(_size(tensors)) if tensors else "", style="dim"),
        "dtype": Text(dtypes.pop() if tensors is not None and len(tensors) == 1 else "", style="dim"),
        "line": Text("/".join((source or "").split("/")[-2:]), style="dim"),
    }


def _laid_out(lines: Sequence[_Line], width: int) -> Iterator[RenderableType]:
    """The lines in columns, as far as there is room: what has the first column alone goes on across the others."""
    natural = {
        name: max((line.cells[name].cell_len for line in lines if name in line.cells), default=0) for name in _ROOM
    }
    natural = {name: max(len(name), wide) for name, wide in natural.items() if wide}
    first = max(len("operation"), *(line.label.cell_len for line in lines if line.cells))
    shape = min(natural.get("shape", 0), _ROOM["shape"][1])
    widths = {"operation": min(first, max(24, width - shape - 2), width)}
    room = width - widths["operation"]
    for name, (least, most) in _ROOM.items():
        wide = min(natural.get(name, 0), most, room - 2)
        if wide > 0 and wide >= min(natural[name], least):
            widths[name] = wide
            room -= wide + 2
    columns = [name for name in ("kind", "shape", "size", "dtype", "line") if name in widths]
    header = _Line(Text("operation", style="dim"), {name: Text(name, style="dim") for name in columns})
    for line in (header, *lines):
        text = line.label.copy()
        text.truncate(widths["operation"] if line.cells else width, overflow="ellipsis", pad=bool(line.cells))
        for name in columns if line.cells else ():
            cell = line.cells.get(name, Text()).copy()
            cell.truncate(widths[name], overflow="ellipsis")
            pad = " " * (widths[name] - cell.cell_len)
            text = Text.assemble(text, "  ", *((pad, cell) if name == "size" else (cell, pad)))
        text.rstrip()
        text.no_wrap, text.overflow = True, "ellipsis"
        yield text


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
    """Every operation as plain values, for machines, with what it takes and whether the output is made of it."""
    inserted = extracted(graph_module)
    edges = find_edges(graph_module)
    output = {source.path for source in edges.output}
    return [
        {
            "index": operation.index,
            "name": operation.name,
            "path": operation.path,
            "kind": operation.kind,
            "scopes": list(operation.scopes),
            "source": operation.source,
            "tensors": _tensors_record(operation.tensors),
            "inputs": [_source_record(source) for source in edges.operands[operation.name]],
            "output": operation.path in output,
            "extracted": operation.name in inserted,
        }
        for _, operation in operation_nodes(graph_module)
    ]


def _source_record(source: ValueSource) -> dict[str, Any]:
    """An operation by its path; an input or attribute, which have no entry of their own, with its tensors too."""
    tensors = {} if source.kind == "operation" else {"tensors": _tensors_record(source.tensors)}
    return {"kind": source.kind, "path": source.path, **tensors}


def _tensors_record(tensors: tuple[TensorSpec, ...] | None) -> list[dict[str, Any]] | None:
    return None if tensors is None else [{**asdict(spec), "shape": list(spec.shape)} for spec in tensors]


def _summary(graph_module: fx.GraphModule, operations: Sequence[Operation], inserted: int, folded: int) -> Text:
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    said = [f"{len(operations)} operations", f"{inserted} extracted", f"{_count(parameters)} parameters"]
    size = _sum(operations)
    said += [f"{_bytes(size)} of values"] if size else []
    said += [f"{folded} operations folded"] if folded else []
    return Text(", ".join(said))


def _sum(operations: Sequence[Operation]) -> int:
    return sum(_size(operation.tensors) or 0 for operation in operations)


def _size(tensors: tuple[TensorSpec, ...] | None) -> int | None:
    """Bytes of a value; None where it is not known."""
    if not tensors:
        return None
    total = 0
    for spec in tensors:
        item = _ITEM_SIZES.get(spec.dtype) or next(
            (size for bits, size in _ITEM_SIZES.items() if spec.dtype.endswith(bits)), 1
        )
        total += math.prod(spec.shape) * item
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
