"""The outline of a graph: its operations as a tree of modules, to a chosen depth, with repeated blocks folded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from surgery.graph.edges import Edges, ValueSource
    from surgery.types import Operation

MIN_FOLDED_BLOCKS = 3
"""The number of equal blocks in a row from which they are folded into one."""


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """One line of an outline."""

    tree_prefix: str
    """The lines of the tree before the label."""
    label: str
    operations: tuple[Operation, ...] = ()
    """The operation of the row, or all operations of a closed module. An open module has none: its rows follow."""
    operands: tuple[str, ...] = ()
    """The paths of its operands; empty if the value of the previous row is the only one."""
    extracted: int = 0
    """The number of its operations that have an extractor."""


@dataclass(slots=True)
class _Block:
    """A module of the tree: its operations and the modules in it, in order of execution."""

    label: str
    scope: str
    items: list[_Block | tuple[str, Operation]] = field(default_factory=list)
    """Modules, and operations with their labels."""
    folded: list[_Block] = field(default_factory=list)
    """The equal blocks after it, which are not shown."""

    def operations(self) -> Iterator[Operation]:
        for item in self.items:
            if isinstance(item, _Block):
                yield from item.operations()
            else:
                yield item[1]
        for block in self.folded:
            yield from block.operations()

    def last(self) -> Operation:
        if self.folded:
            return self.folded[-1].last()
        item = self.items[-1]
        return item.last() if isinstance(item, _Block) else item[1]


class Outline:
    """Makes the rows for the operations of a graph.

    `extracted` has the names of operations with an extractor, and `notes` a text for others, such as edits. `depth` is
    the number of levels that are open, or None for all. If `fold` is true, blocks in a row that have the same
    operations, shapes, edges, notes and extractors are shown once.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        edges: Edges,
        extracted: Collection[str],
        *,
        depth: int | None = None,
        fold: bool = True,
        notes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._edges = edges
        self._extracted = extracted
        self._notes = notes
        self._depth = depth
        self._paths = {operation.path for operation in operations} | {source.path for source in edges.inputs}
        self._before = {operation.path: previous for previous, operation in pairwise(operations)}
        self._root = _build_tree(operations)
        self.folded = 0
        """The number of operations in folded blocks, known after `rows` has ended."""
        if fold:
            self._fold(self._root)

    def rows(self) -> Iterator[OutlineRow]:
        """Yield the rows in order of execution; the last one is the output."""
        inputs = [source.path for source in self._edges.inputs]
        previous = inputs[-1] if inputs else ""
        for row, last in self._rows(self._root, "", 1, previous):
            previous = last
            yield row
        operands = tuple(source.path for source in self._edges.output)
        yield OutlineRow("", "output", operands=() if operands == (previous,) else operands)

    def _rows(self, block: _Block, prefix: str, level: int, previous: str) -> Iterator[tuple[OutlineRow, str]]:
        """Yield the rows of a block, each with the path of the last value so far."""
        for number, item in enumerate(block.items):
            is_last = number == len(block.items) - 1
            mark = prefix + ("└─ " if is_last else "├─ ")
            if not isinstance(item, _Block):
                label, operation = item
                operands = self._operands(self._edges.operands[operation.name], block.scope, previous)
                previous = operation.path
                is_extracted = operation.name in self._extracted
                yield OutlineRow(mark, label, (operation,), operands, is_extracted), previous
            elif self._depth is not None and level >= self._depth:
                inside = tuple(item.operations())
                operands = self._operands(self._outside_sources(inside), block.scope, previous)
                extracted = sum(operation.name in self._extracted for operation in inside)
                previous = item.last().path
                yield OutlineRow(mark, item.label, inside, operands, extracted), previous
            else:
                self.folded += sum(len(list(other.operations())) for other in item.folded)
                yield OutlineRow(mark, item.label), previous
                yield from self._rows(item, prefix + ("   " if is_last else "│  "), level + 1, previous)
                previous = item.last().path

    def _outside_sources(self, operations: Sequence[Operation]) -> tuple[ValueSource, ...]:
        inside = {operation.path for operation in operations}
        sources = (source for operation in operations for source in self._edges.operands[operation.name])
        return tuple(dict.fromkeys(s for s in sources if s.path not in inside and s.kind != "attribute"))

    def _operands(self, sources: Sequence[ValueSource], scope: str, previous: str) -> tuple[str, ...]:
        """Return the paths of sources relative to a module; nothing if the previous value is the only source."""
        paths = [source.path for source in sources]
        if paths == [previous]:
            return ()
        return tuple(self._short_path(path, scope) for path in paths) or ("nothing",)

    def _short_path(self, path: str, scope: str) -> str:
        short = relative_path(path, scope)
        return path if short in self._paths else short

    def _fold(self, block: _Block) -> None:
        """Replace equal blocks in a row by the first of them."""
        for item in block.items:
            if isinstance(item, _Block):
                self._fold(item)
        items: list[_Block | tuple[str, Operation]] = []
        for _, group in groupby(
            block.items, lambda item: self._signature(item) if isinstance(item, _Block) else id(item)
        ):
            run = list(group)
            blocks = [item for item in run if isinstance(item, _Block)]
            if len(blocks) < MIN_FOLDED_BLOCKS:
                items += run
                continue
            first, *rest = blocks
            first.label = f"{first.label} … {rest[-1].label}: {len(blocks)} alike"
            first.folded = rest
            items.append(first)
        block.items = items

    def _signature(self, block: _Block) -> Any:
        """Return a value that is the same for equal blocks."""
        first = next(iter(block.operations()))
        before = self._before.get(first.path)
        entry = before.path if before is not None else self._edges.inputs[-1].path if self._edges.inputs else ""

        def operand(source: ValueSource) -> str:
            return ">" if source.path == entry else relative_path(source.path, block.scope)

        def signature(inner: _Block) -> Iterator[Any]:
            for item in inner.items:
                if isinstance(item, _Block):
                    yield item.label, tuple(signature(item))
                    continue
                label, operation = item
                operands = tuple(operand(source) for source in self._edges.operands[operation.name])
                note, is_extracted = self._notes.get(operation.name), operation.name in self._extracted
                yield label, operation.kind, operation.tensors, operands, note, is_extracted

        return re.sub(r"\d+", "#", block.label), tuple(signature(block))


def _build_tree(operations: Sequence[Operation]) -> _Block:
    """Return the operations, in order of execution, inside of their modules."""
    root = _Block("", "")
    stack = [root]
    for operation in operations:
        modules = operation.scopes
        if modules and operation.path.partition("@")[0] == modules[-1]:
            modules = modules[:-1]
        shared = 0
        while shared < min(len(modules), len(stack) - 1) and stack[shared + 1].scope == modules[shared]:
            shared += 1
        del stack[shared + 1 :]
        for scope in modules[shared:]:
            block = _Block(relative_path(scope, stack[-1].scope), scope)
            stack[-1].items.append(block)
            stack.append(block)
        stack[-1].items.append((relative_path(operation.path, stack[-1].scope), operation))
    return root


def relative_path(path: str, scope: str) -> str:
    """Return a path relative to a module."""
    return path.removeprefix(f"{scope}.") if scope else path
