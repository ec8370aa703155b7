"""Graphs in the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.syntax import Syntax

from surgery.nodes import is_extractor, operation_nodes
from surgery.terminal import Text, fitted, shapes, terminal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from torch import fx

    from surgery.types import Operation

EXTRACTOR = "◉ ActivationExtractor"
_EXTRACTOR_STYLE = "bold magenta"
_ITEM_SIZES = {"64": 8, "32": 4, "16": 2, "8": 1, "bool": 1, "complex64": 8, "complex128": 16}


def show(graph_module: fx.GraphModule, *, console: Console | None = None) -> None:
    """Print a graph, rewritten or not: a tree by module, with every operation and the inserted extractors."""
    console = console or terminal()
    console.print(graph_view(graph_module, console.width))


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
                "shape": Text(shapes(operation)),
                "size": Text(_bytes(_size(operation)), style="dim"),
                "dtype": Text(operation.dtype or "", style="dim"),
                "line": Text("/".join((operation.source or "").split("/")[-2:]), style="dim"),
            }
        )
        if operation.name in inserted:
            below = guide.replace("├─ ", "│  ").replace("└─ ", "   ")
            rows.append({"operation": Text.assemble((below, "dim"), (f"└▸ {EXTRACTOR}", _EXTRACTOR_STYLE))})
    summary = _summary(graph_module, [operation for _, operation in known], len(inserted))
    return Group(fitted(rows, ["operation", "kind", "shape", "size", "dtype", "line"], width), Text(), summary)


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
