"""Which operations of two models correspond: those of the same path and kind, else by kind, shape and dataflow."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import numpy as np

from surgery.errors import SelectionError
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.graph import Edges
    from surgery.types import Operation

_SAME_PATH, _SAME_SHAPE, _SAME_KIND, _SAME_SOURCES = 8.0, 3.0, 1.0, 2.0
"""How much speaks for a pair of operations of the same kind: the same path, the same shape, nothing more; and operands
of the same kinds and shapes."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The operations of two models that correspond, in order of execution."""

    pairs: tuple[tuple[Operation, Operation], ...]
    only_first: tuple[Operation, ...]
    """Operations of the first model without a counterpart."""
    only_second: tuple[Operation, ...]

    def describe(self) -> str:
        """Return what has no counterpart in one line; empty if everything has."""
        parts = [
            f"{abbreviate_list([each.path for each in operations], 4)} only in the {name}"
            for name, operations in (("first", self.only_first), ("second", self.only_second))
            if operations
        ]
        return "; ".join(parts)


def align(
    first: Sequence[Operation],
    second: Sequence[Operation],
    edges: tuple[Edges, Edges] | None = None,
    names: Mapping[str, str] | None = None,
) -> Alignment:
    """Return the operations of two models that correspond.

    If all operations of the same path have the same kind, in the same order, those correspond. Otherwise the pairs are
    those of a longest common subsequence: operations of one kind may be a pair, and more speaks for it if their paths,
    their shapes, or the kinds and shapes of their operands are the same. `edges` are those of both models. `names` maps
    patterns of paths in the first model to those in the second: ``{"down*": "enc*"}``, where a star stands for the same
    text in both.

    Raises SelectionError if the models have no operation in common, or if a pattern matches none.
    """
    renamed = _rename(first, second, names or {})
    scores = _scores(first, second, renamed, edges)
    pairs = _longest(scores)
    if not pairs:
        kinds = [abbreviate_list(sorted({each.kind for each in side}), 6) for side in (first, second)]
        raise SelectionError(f"the models have no operation in common: one has {kinds[0]}, the other {kinds[1]}")
    matched_first, matched_second = {one for one, _ in pairs}, {other for _, other in pairs}
    return Alignment(
        tuple((first[one], second[other]) for one, other in pairs),
        tuple(each for place, each in enumerate(first) if place not in matched_first),
        tuple(each for place, each in enumerate(second) if place not in matched_second),
    )


def find_again(paths: Sequence[str], before: Sequence[Operation], after: Sequence[Operation]) -> dict[str, str]:
    """Return the paths in a changed model of operations that had these paths before.

    Raises SelectionError for an operation that has no counterpart, with the nearest ones.
    """
    alignment = align(before, after)
    found = {one.path: other.path for one, other in alignment.pairs}
    for path in paths:
        if path not in found:
            known = next((each for each in before if each.path == path), None)
            kind = "" if known is None else known.kind
            near = [each.path for each in after if each.kind == kind and each.path not in found.values()]
            hint = f"; of its kind there is {abbreviate_list(near, 4)}" if near else ""
            raise SelectionError(f"{path!r} has no counterpart in the changed model{hint}")
    return {path: found[path] for path in paths}


def _rename(first: Sequence[Operation], second: Sequence[Operation], names: Mapping[str, str]) -> dict[str, str]:
    """Return for paths of the first model those that they have in the second, by the patterns of the user."""
    renamed = {operation.path: operation.path for operation in first}
    known = {operation.path for operation in second}
    for pattern, target in names.items():
        if pattern.count("*") != target.count("*") or pattern.count("*") > 1:
            raise SelectionError(f"an alignment is PATTERN=PATTERN with one * in each or none, not {pattern}={target}")
        matching = [path for path in renamed if fnmatchcase(path, pattern)]
        before, _, after = pattern.partition("*")
        for path in matching:
            star = path[len(before) : len(path) - len(after)] if "*" in pattern else ""
            renamed[path] = target.replace("*", star)
        if not matching:
            raise SelectionError(f"{pattern!r} matches no operation of the first model")
        if not any(renamed[path] in known for path in matching):
            raise SelectionError(f"{target!r} matches no operation of the second model for {pattern!r}")
    return renamed


def _scores(
    first: Sequence[Operation],
    second: Sequence[Operation],
    renamed: Mapping[str, str],
    edges: tuple[Edges, Edges] | None,
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return how much speaks for each pair, 0 for pairs that can't be."""
    kinds = {kind: number for number, kind in enumerate(sorted({each.kind for each in (*first, *second)}))}
    scores = np.where(
        _equal([kinds[each.kind] for each in first], [kinds[each.kind] for each in second]), _SAME_KIND, 0.0
    )
    for one, other, weight in [
        ([each.shapes() for each in first], [each.shapes() for each in second], _SAME_SHAPE),
        (_sources(first, edges and edges[0]), _sources(second, edges and edges[1]), _SAME_SOURCES),
    ]:
        scores += np.where((scores > 0) & _equal(*_numbered(one, other)), weight, 0.0)
    same_path = _equal(*_numbered([renamed[each.path] for each in first], [each.path for each in second]))
    return np.where((scores > 0) & same_path, scores + _SAME_PATH, scores)


def _sources(operations: Sequence[Operation], edges: Edges | None) -> list[str]:
    """Return the kinds and shapes of the operands of each operation, as text."""
    if edges is None:
        return [""] * len(operations)
    known = {operation.path: f"{operation.kind}{operation.shapes()}" for operation in operations}
    return [
        ",".join(known.get(source.path, source.kind) for source in edges.operands.get(operation.name, ()))
        for operation in operations
    ]


def _numbered(one: Sequence[str], other: Sequence[str]) -> tuple[list[int], list[int]]:
    numbers = {text: number for number, text in enumerate(dict.fromkeys([*one, *other]))}
    return [numbers[text] for text in one], [numbers[text] for text in other]


def _equal(one: Sequence[int], other: Sequence[int]) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return np.asarray(one)[:, None] == np.asarray(other)[None]  # type: ignore[no-any-return]


def _longest(scores: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[tuple[int, int]]:
    """Return the pairs, ascending in both places, whose scores have the greatest sum."""
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1))
    for row in range(rows):
        # A row at a time: the best that ends in a pair of this row, then what the row has so far.
        with_pair = np.where(scores[row] > 0, best[row, :-1] + scores[row], 0.0)
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(best[row, 1:], with_pair))
    pairs: list[tuple[int, int]] = []
    row, column = rows, columns
    while row and column:
        if best[row, column] == best[row - 1, column]:
            row -= 1
        elif best[row, column] == best[row, column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return pairs[::-1]
