"""The outline of a graph: its operations under their modules, as deep as is wanted, with repeated blocks folded."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from surgery.graph.edges import Edges, ValueSource
    from surgery.types import Operation

MIN_FOLDED_BLOCKS = 3
"""So many blocks in a row that are alike are folded into one."""


@dataclass(frozen=True, slots=True)
class OutlineRow:
    """One line of an outline."""

    tree_prefix: str
    """The lines of the tree before the label."""
    label: str
    operations: tuple[Operation, ...] = ()
    """The operation of the row, or those of a module that is not opened; none for a module that is."""
    operands: tuple[str, ...] = ()
    """What it takes, where that is not simply the value of the row before."""
    extracted: int = 0
    """How many of its operations an extractor stands behind."""


@dataclass(slots=True)
class _Branch:
    label: str
    scope: str
    twigs: list[_Branch | tuple[str, Operation]] = field(default_factory=list)
    folded: list[_Branch] = field(default_factory=list)
    """The branches behind it that are like it and are not shown."""

    def operations(self) -> Iterator[Operation]:
        for twig in self.twigs:
            if isinstance(twig, _Branch):
                yield from twig.operations()
            else:
                yield twig[1]
        for branch in self.folded:
            yield from branch.operations()

    def last(self) -> Operation:
        if self.folded:
            return self.folded[-1].last()
        twig = self.twigs[-1]
        return twig.last() if isinstance(twig, _Branch) else twig[1]


class Outline:
    """Makes the rows for the operations of a graph.

    `depth` is the number of levels that are opened, None for all of them. With `fold`, blocks in a row are shown once
    where they have the same operations, shapes, edges and extractors.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        edges: Edges,
        extracted: Collection[str],
        *,
        depth: int | None = None,
        fold: bool = True,
    ) -> None:
        self._edges = edges
        self._extracted = extracted
        self._depth = depth
        self._paths = {operation.path for operation in operations} | {source.path for source in edges.inputs}
        self._before = {operation.path: previous for previous, operation in pairwise(operations)}
        self._root = _tree(operations)
        self.folded = 0
        """How many operations the rows leave out, since their block is like the one before."""
        if fold:
            self._fold(self._root)

    def rows(self) -> Iterator[OutlineRow]:
        """The rows, from the inputs to the output."""
        inputs = [source.path for source in self._edges.inputs]
        previous = inputs[-1] if inputs else ""
        for row, last in self._rows(self._root, "", 1, previous):
            previous = last
            yield row
        taken = tuple(source.path for source in self._edges.output)
        yield OutlineRow("", "output", operands=() if taken == (previous,) else taken)

    def _rows(self, branch: _Branch, guide: str, level: int, previous: str) -> Iterator[tuple[OutlineRow, str]]:
        """The rows of a branch, each with the path of the value that it ends with."""
        for number, twig in enumerate(branch.twigs):
            ends = number == len(branch.twigs) - 1
            mark = guide + ("└─ " if ends else "├─ ")
            if not isinstance(twig, _Branch):
                label, operation = twig
                sources = self._edges.operands[operation.name]
                taken = self._named(sources, branch.scope, previous)
                previous = operation.path
                yield OutlineRow(mark, label, (operation,), taken, operation.name in self._extracted), previous
                continue
            if self._depth is not None and level >= self._depth:
                inside = tuple(twig.operations())
                taken = self._named(self._from_outside(inside), branch.scope, previous)
                count = sum(operation.name in self._extracted for operation in inside)
                previous = twig.last().path
                yield OutlineRow(mark, twig.label, inside, taken, count), previous
                continue
            self.folded += sum(len(list(block.operations())) for block in twig.folded)
            yield OutlineRow(mark, twig.label), previous
            for row, ended in self._rows(twig, guide + ("   " if ends else "│  "), level + 1, previous):
                previous = ended
                yield row, ended
            previous = twig.last().path

    def _from_outside(self, operations: Sequence[Operation]) -> tuple[ValueSource, ...]:
        inside = {operation.path for operation in operations}
        sources = (source for operation in operations for source in self._edges.operands[operation.name])
        return tuple(dict.fromkeys(s for s in sources if s.path not in inside and s.kind != "attribute"))

    def _named(self, sources: Sequence[ValueSource], scope: str, previous: str) -> tuple[str, ...]:
        """The sources as they are called in a module; none where they are the row before alone."""
        paths = [source.path for source in sources]
        if paths == [previous]:
            return ()
        return tuple(self._short(path, scope) for path in paths) or ("nothing",)

    def _short(self, path: str, scope: str) -> str:
        short = relative(path, scope)
        return path if short in self._paths else short

    def _fold(self, branch: _Branch) -> None:
        """Replace blocks in a row that are alike by the first of them."""
        for twig in branch.twigs:
            if isinstance(twig, _Branch):
                self._fold(twig)
        kept: list[_Branch | tuple[str, Operation]] = []
        for _, run in groupby(branch.twigs, lambda twig: self._shape(twig) if isinstance(twig, _Branch) else id(twig)):
            twigs = list(run)
            blocks = [twig for twig in twigs if isinstance(twig, _Branch)]
            if len(blocks) < MIN_FOLDED_BLOCKS:
                kept += twigs
                continue
            first, *rest = blocks
            first.label = f"{first.label} … {rest[-1].label}: {len(blocks)} alike"
            first.folded = rest
            kept.append(first)
        branch.twigs = kept

    def _shape(self, block: _Branch) -> Any:
        """What blocks that are alike have in common."""
        first = next(iter(block.operations()))
        before = self._before.get(first.path)
        entry = before.path if before is not None else self._edges.inputs[-1].path if self._edges.inputs else ""

        def called(source: ValueSource) -> str:
            return ">" if source.path == entry else relative(source.path, block.scope)

        def shape(branch: _Branch) -> Any:
            for twig in branch.twigs:
                if isinstance(twig, _Branch):
                    yield twig.label, tuple(shape(twig))
                    continue
                label, operation = twig
                taken = tuple(called(source) for source in self._edges.operands[operation.name])
                yield label, operation.kind, operation.tensors, taken, operation.name in self._extracted

        return re.sub(r"\d+", "#", block.label), tuple(shape(block))


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
            branch = _Branch(relative(scope, path[-1].scope), scope)
            path[-1].twigs.append(branch)
            path.append(branch)
        path[-1].twigs.append((relative(operation.path, path[-1].scope), operation))
    return root


def relative(path: str, scope: str) -> str:
    """A path as it is called within a module."""
    return path.removeprefix(f"{scope}.") if scope else path
