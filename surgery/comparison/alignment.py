"""Which operations of two models correspond: those of the same path and kind, else by kind, shape and dataflow."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from surgery.errors import SelectionError
from surgery.text import abbreviate_list, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.graph import Edges
    from surgery.types import Operation

_Scores: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float64]]
_SAME_PATH, _SAME_SHAPE, _SAME_KIND, _SAME_SOURCES = 8.0, 3.0, 1.0, 2.0
"""How much speaks for a pair of operations of the same kind: the same path, the same shape, nothing more; and operands
of the same kinds and shapes."""
_NAMED = 1e6
"""More than all else that can speak for pairs: the user names this one."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """The operations of two models that correspond, in order of execution."""

    pairs: tuple[tuple[Operation, Operation], ...]
    only_first: tuple[Operation, ...]
    """Operations of the first model without a counterpart."""
    only_second: tuple[Operation, ...]
    ambiguous: tuple[tuple[Operation, tuple[Operation, ...]], ...] = ()
    """Operations of the first model for which several of the second are equally likely, with these."""

    def describe_ambiguity(self) -> str:
        """Return in one line what could correspond to something else as well; empty if nothing could."""
        if not self.ambiguous:
            return ""
        operation, others = self.ambiguous[0]
        shown = abbreviate_list([each.path for each in others], 3)
        count = format_count(len(self.ambiguous), "operation")
        return f"the alignment of {count} is ambiguous, such as {operation.path} with {shown}; align names pairs"

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
    text in both. Pairs that are named may be of different kinds.

    Raises SelectionError if the models have no operation in common, if a pattern matches none, and for named pairs that
    contradict each other or the order of execution.
    """
    named = _find_named_pairs(first, second, names or {})
    scores = _scores(first, second, named, edges)
    pairs, ambiguous = _longest(scores)
    _check_named_pairs(named, {(first[one].path, second[other].path) for one, other in pairs})
    if not pairs:
        kinds = [abbreviate_list(sorted({each.kind for each in side}), 6) for side in (first, second)]
        raise SelectionError(f"the models have no operation in common: one has {kinds[0]}, the other {kinds[1]}")
    matched_first, matched_second = {one for one, _ in pairs}, {other for _, other in pairs}
    return Alignment(
        tuple((first[one], second[other]) for one, other in pairs),
        tuple(each for place, each in enumerate(first) if place not in matched_first),
        tuple(each for place, each in enumerate(second) if place not in matched_second),
        tuple((first[place], tuple(second[other] for other in others)) for place, others in ambiguous),
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


def _find_named_pairs(
    first: Sequence[Operation], second: Sequence[Operation], names: Mapping[str, str]
) -> dict[str, str]:
    """Return the paths of the second model by those of the first, for the patterns of the user."""
    pairs: dict[str, str] = {}
    known = {operation.path for operation in second}
    for pattern, target in names.items():
        if pattern.count("*") != target.count("*") or pattern.count("*") > 1:
            raise SelectionError(f"an alignment is PATTERN=PATTERN with one * in each or none, not {pattern}={target}")
        matching = [operation.path for operation in first if fnmatchcase(operation.path, pattern)]
        if not matching:
            raise SelectionError(f"{pattern!r} matches no operation of the first model")
        before, _, after = pattern.partition("*")
        stars = [path[len(before) : len(path) - len(after)] if "*" in pattern else "" for path in matching]
        found = {path: target.replace("*", star) for path, star in zip(matching, stars, strict=True)}
        found = {path: other for path, other in found.items() if other in known}
        if not found:
            raise SelectionError(f"{target!r} matches no operation of the second model for {pattern!r}")
        for path, other in found.items():
            if pairs.setdefault(path, other) != other:
                raise SelectionError(f"{path!r} can't correspond to both {pairs[path]!r} and {other!r}")
    owners: dict[str, str] = {}
    for path, other in pairs.items():
        if owners.setdefault(other, path) != path:
            raise SelectionError(f"{owners[other]!r} and {path!r} can't both correspond to {other!r}")
    return pairs


def _check_named_pairs(named: Mapping[str, str], found: set[tuple[str, str]]) -> None:
    """Raise SelectionError if one of the named pairs was not found."""
    crossing = next(((path, other) for path, other in named.items() if (path, other) not in found), None)
    if crossing is not None:
        raise SelectionError(
            f"{crossing[0]!r} and {crossing[1]!r} can't correspond beside the other pairs that are named: operations "
            "correspond in the order in which they run"
        )


def _scores(
    first: Sequence[Operation],
    second: Sequence[Operation],
    named: Mapping[str, str],
    edges: tuple[Edges, Edges] | None,
) -> _Scores:
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
    same_path = _equal(*_numbered([each.path for each in first], [each.path for each in second]))
    scores = np.where((scores > 0) & same_path, scores + _SAME_PATH, scores)
    places = {operation.path: place for place, operation in enumerate(second)}
    for row, operation in enumerate(first):
        if operation.path in named:
            scores[row, places[named[operation.path]]] += _NAMED
    return scores


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


def _best_sums(scores: _Scores) -> _Scores:
    """Return the greatest sum of the scores of ascending pairs, of the first 0, 1, ... rows and columns."""
    rows, columns = scores.shape
    best = np.zeros((rows + 1, columns + 1))
    for row in range(rows):
        # A row at a time: the best that ends in a pair of this row, then what the row has so far.
        with_pair = np.where(scores[row] > 0, best[row, :-1] + scores[row], 0.0)
        best[row + 1, 1:] = np.maximum.accumulate(np.maximum(best[row, 1:], with_pair))
    return best


def _longest(scores: _Scores) -> tuple[list[tuple[int, int]], list[tuple[int, list[int]]]]:
    """Return the pairs, ascending in both places, whose scores have the greatest sum.

    Also returns the rows that have several columns among all pairs of such a sum, with these.
    """
    best = _best_sums(scores)
    rest = _best_sums(scores[::-1, ::-1])[::-1, ::-1]
    possible = (scores > 0) & (best[:-1, :-1] + scores + rest[1:, 1:] == best[-1, -1])
    ambiguous = [(int(row), np.flatnonzero(possible[row]).tolist()) for row in np.flatnonzero(possible.sum(1) > 1)]
    pairs: list[tuple[int, int]] = []
    row, column = scores.shape
    while row and column:
        if best[row, column] == best[row - 1, column]:
            row -= 1
        elif best[row, column] == best[row, column - 1]:
            column -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return pairs[::-1], ambiguous
