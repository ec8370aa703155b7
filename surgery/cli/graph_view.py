"""The graph of a traced model in the terminal, as generated code, and as plain values."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console, Group
from rich.syntax import Syntax

from surgery.cli.console import Text, open_console
from surgery.cli.tables import format_shapes
from surgery.errors import TraceError
from surgery.graph import Outline, find_edges, is_extractor, operations, trace_info
from surgery.rewriting import find_edits, find_extractors
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType
    from torch import fx, nn

    from surgery.graph import Edges, OutlineRow, ValueSource
    from surgery.types import Operation, TensorSpec

EXTRACTOR = "◉ ActivationExtractor"
_EXTRACTOR_STYLE = "bold magenta"
EDIT_MARK = "◆"
_EDIT_STYLE = "bold yellow"
_ITEM_SIZES = {"64": 8, "32": 4, "16": 2, "8": 1, "bool": 1, "complex64": 8, "complex128": 16}
_COLUMN_WIDTHS = {"shape": (12, 32), "kind": (8, 24), "size": (9, 9), "dtype": (8, 16), "line": (12, 48)}
"""The least and the greatest width of each column, the most important column first."""


def show(
    graph_module: nn.Module, *, depth: int | None = None, fold: bool = True, console: Console | None = None
) -> None:
    """Print the graph of a traced or rewritten model as a tree of modules, operations and extractors.

    An arrow names the inputs of an operation, unless its only input is the value of the row above. `depth` limits the
    levels of modules that are expanded; None expands all. With `fold`, a run of at least three blocks that differ only
    in their weights is shown as one block.
    """
    console = console or open_console()
    console.print(graph_view(graph_module, console.width, depth=depth, fold=fold))


def graph_view(graph_module: nn.Module, width: int, *, depth: int | None = None, fold: bool = True) -> RenderableType:
    """Return what `show` prints on a console of `width` characters; a narrow one gets fewer columns."""
    listed = operations(graph_module)
    extracted = extracted_names(graph_module)
    edges = find_edges(graph_module)
    edits = {edit.operation.name: edit.change.text for edit in find_edits(graph_module)}
    outline = Outline(listed, edges, extracted, depth=depth, fold=fold, notes=edits)
    lines = [_ViewLine(Text(source.path), _cells("input", source.tensors)) for source in edges.inputs]
    limit = max(24, width * 45 // 100)
    for row in outline.rows():
        lines += _row_lines(row, edges, limit, edits)
    summary = _summary(graph_module, listed, len(edits), len(extracted), outline.folded)
    return Group(*_align_columns(lines, width), Text(), summary, *_trace_lines(graph_module, width))


@dataclass(frozen=True, slots=True)
class _ViewLine:
    """A line of the view: the text of the first column, and the cells of the others by name.

    A line without cells may extend over all columns.
    """

    label: Text
    cells: Mapping[str, Text] = field(default_factory=dict)


def _row_lines(row: OutlineRow, edges: Edges, limit: int, edits: Mapping[str, str]) -> Iterator[_ViewLine]:
    """Yield the line of a row. More lines follow for its extractor, and for inputs that need more than `limit`.

    `edits` has what the edits are, by the names of the operations.
    """
    edited = [operation for operation in row.operations if operation.name in edits]
    style = _EDIT_STYLE if edited and len(row.operations) == 1 else ""
    label = Text.assemble(
        (row.tree_prefix, "dim"), (row.label, style if row.operations or not row.tree_prefix else "bold")
    )
    cells: Mapping[str, Text] = {}
    if len(row.operations) == 1:
        (operation,) = row.operations
        cells = _cells(operation.kind, operation.tensors, operation)
        if edited:
            cells = {**cells, "kind": Text(f"{EDIT_MARK} {edits[operation.name]}", style=_EDIT_STYLE)}
    elif row.operations:
        cells = _cells(f"{len(row.operations)} operations", row.operations[-1].tensors)
        cells = {**cells, "size": Text(_format_bytes(_total_size(row.operations) or None), style="dim")}
    elif not row.tree_prefix:
        tensors = [source.tensors for source in edges.output]
        cells = _cells("output", None if None in tensors else tuple(spec for each in tensors for spec in each or ()))
    below = row.tree_prefix.replace("├─ ", "│  ").replace("└─ ", "   ")
    arrow = f"← {', '.join(row.operands)}"
    inline = bool(row.operands) and label.cell_len + 1 + len(arrow) <= limit
    yield _ViewLine(Text.assemble(label, (f" {arrow}", "dim")) if inline else label, cells)
    if row.operands and not inline:
        yield _ViewLine(Text.assemble((f"{below}{arrow}", "dim")))
    if edited and len(row.operations) > 1:
        texts = ", ".join(f"{operation.path} = {edits[operation.name]}" for operation in edited[:3])
        more = f" and {len(edited) - 3} more" if len(edited) > 3 else ""
        yield _ViewLine(Text.assemble((below, "dim"), (f"└▸ {EDIT_MARK} {texts}{more}", _EDIT_STYLE)))
    if row.extracted:
        extractor = f"◉ {row.extracted} ActivationExtractors" if row.extracted > 1 else EXTRACTOR
        yield _ViewLine(Text.assemble((below, "dim"), (f"└▸ {extractor}", _EXTRACTOR_STYLE)))


def _cells(kind: str, tensors: tuple[TensorSpec, ...] | None, operation: Operation | None = None) -> Mapping[str, Text]:
    dtypes = {spec.dtype for spec in tensors or ()}
    source = operation.source if operation is not None else None
    return {
        "kind": Text(kind, style="cyan"),
        "shape": Text(format_shapes(tensors)),
        "size": Text(_format_bytes(_byte_size(tensors)) if tensors else "", style="dim"),
        "dtype": Text(dtypes.pop() if tensors is not None and len(tensors) == 1 else "", style="dim"),
        "line": Text("/".join((source or "").split("/")[-2:]), style="dim"),
    }


def _align_columns(lines: Sequence[_ViewLine], width: int) -> Iterator[RenderableType]:
    """Yield the header and the lines as texts of at most `width` characters."""
    widths = _column_widths(lines, width)
    columns = [name for name in ("kind", "shape", "size", "dtype", "line") if name in widths]
    header = _ViewLine(Text("operation", style="dim"), {name: Text(name, style="dim") for name in columns})
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


def _column_widths(lines: Sequence[_ViewLine], width: int) -> dict[str, int]:
    """Return the width of each column that is shown: the first one, and those of `_COLUMN_WIDTHS` that have room."""
    needed = {
        name: max((line.cells[name].cell_len for line in lines if name in line.cells), default=0)
        for name in _COLUMN_WIDTHS
    }
    needed = {name: max(len(name), cells) for name, cells in needed.items() if cells}
    first = max(len("operation"), *(line.label.cell_len for line in lines if line.cells))
    shape = min(needed.get("shape", 0), _COLUMN_WIDTHS["shape"][1])
    widths = {"operation": min(first, max(24, width - shape - 2), width)}
    room = width - widths["operation"]
    for name, (least, greatest) in _COLUMN_WIDTHS.items():
        column_width = min(needed.get(name, 0), greatest, room - 2)
        if column_width > 0 and column_width >= min(needed[name], least):
            widths[name] = column_width
            room -= column_width + 2
    return widths


def extracted_names(graph_module: nn.Module) -> set[str]:
    """Return the names of the operations that are followed by an extractor."""
    return {extractor.operation.name for extractor in find_extractors(graph_module)}


def code_view(graph_module: nn.Module) -> RenderableType:
    """Return the Python code that torch.fx generated; the lines that call an extractor are marked.

    Raises TraceError for an observed model, which has no graph.
    """
    info = trace_info(graph_module)
    if info.front_end == "observed":
        raise TraceError(
            f"{type(graph_module).__name__} has no code of a graph, since it is observed ({info.short_reason}); "
            "--front-end symbolic says how to change that line, and --leaf NAME keeps a module whole"
            if info.reason
            else f"{type(graph_module).__name__} has no code of a graph, since --front-end observed was given"
        )
    traced = cast("fx.GraphModule", graph_module)
    names = {node.name for node in traced.graph.nodes if is_extractor(traced, node)}
    lines = traced.code.strip("\n").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.strip().partition(" = ")[0] in names}
    shown = [f"{line}  # ◉" if number in marked else line for number, line in enumerate(lines, 1)]
    return Syntax("\n".join(shown), "python", theme="ansi_dark", background_color="default", highlight_lines=marked)


def graph_record(graph_module: nn.Module) -> list[dict[str, Any]]:
    """Return every operation as values for JSON, with its inputs and whether it is part of the output."""
    extracted = extracted_names(graph_module)
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
            "extracted": operation.name in extracted,
        }
        for operation in operations(graph_module)
    ]


def _source_record(source: ValueSource) -> dict[str, Any]:
    """Return a source for JSON. Inputs and attributes, which have no entry of their own, come with their tensors."""
    tensors = {} if source.kind == "operation" else {"tensors": _tensors_record(source.tensors)}
    return {"kind": source.kind, "path": source.path, **tensors}


def _tensors_record(tensors: tuple[TensorSpec, ...] | None) -> list[dict[str, Any]] | None:
    return None if tensors is None else [{**asdict(spec), "shape": list(spec.shape)} for spec in tensors]


def _summary(graph_module: nn.Module, listed: Sequence[Operation], edited: int, extracted: int, folded: int) -> Text:
    parameters = sum(parameter.numel() for parameter in graph_module.parameters())
    counts = [format_count(len(listed) - edited, "operation"), *([f"{edited} edited"] if edited else [])]
    counts.append(f"{extracted} extracted")
    counts.append(f"{_format_number(parameters)} parameters")
    size = _total_size(listed)
    counts += [f"{_format_bytes(size)} of values"] if size else []
    counts += [f"{format_count(folded, 'operation')} folded"] if folded else []
    return Text(", ".join(counts))


def _trace_lines(graph_module: nn.Module, width: int) -> Iterator[Text]:
    """Yield how the model was traced. What follows the first of several lines that say one thing is indented."""
    info = trace_info(graph_module)
    for text in info.describe():
        for line in textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False):
            yield Text(line, style="dim" if info.is_verified else "yellow")


def _total_size(operations: Sequence[Operation]) -> int:
    return sum(_byte_size(operation.tensors) or 0 for operation in operations)


def _byte_size(tensors: tuple[TensorSpec, ...] | None) -> int | None:
    """Return the bytes of a value; None when its tensors are unknown."""
    if not tensors:
        return None
    total = 0
    for spec in tensors:
        item = _ITEM_SIZES.get(spec.dtype) or next(
            (size for bits, size in _ITEM_SIZES.items() if spec.dtype.endswith(bits)), 1
        )
        total += math.prod(spec.shape) * item
    return total


def _format_bytes(size: int | None) -> str:
    if size is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"


def _format_number(number: int) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.3g} {unit}"
    return str(number)
