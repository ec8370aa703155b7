"""Selections of operations: predicates that can be combined, and the language in which they are written as text.

down*                     operations whose path matches (shell wildcards; * matches dots too)
op:conv2d                 operations of a kind: modules, functions and methods
inside:up3                operations in a module, at any depth
~a    a & b    a | b      not, and, or, in this order of precedence; ( ) group
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial, reduce
from operator import or_
from typing import TYPE_CHECKING, TypeAlias

from surgery.errors import SelectionError
from surgery.graph import Operations, operations
from surgery.rewriting.suggestions import suggest_selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from surgery.types import Operation

    Matches: TypeAlias = Callable[[Operation], bool]


@dataclass(frozen=True, slots=True)
class Selection:
    """A predicate over operations. Combine it with ``&``, ``|`` and ``~``, and apply it with `select`."""

    text: str
    """The selection in the language of the command line."""
    matches: Callable[[Operation], bool]
    """Whether an operation is selected."""

    def __and__(self, other: Selection) -> Selection:
        return Selection(f"({self.text} & {other.text})", partial(_match_both, self.matches, other.matches))

    def __or__(self, other: Selection) -> Selection:
        return Selection(f"({self.text} | {other.text})", partial(_match_either, self.matches, other.matches))

    def __invert__(self) -> Selection:
        return Selection(f"~{self.text}", partial(_match_not, self.matches))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Selection({self.text!r})"


# Functions of this module, so that a selection can be pickled.


def _match_both(left: Matches, right: Matches, operation: Operation) -> bool:
    return left(operation) and right(operation)


def _match_either(left: Matches, right: Matches, operation: Operation) -> bool:
    return left(operation) or right(operation)


def _match_not(matches: Matches, operation: Operation) -> bool:
    return not matches(operation)


def _match_path(pattern: str, operation: Operation) -> bool:
    return fnmatchcase(operation.path, pattern)


def _match_kind(folded: str, operation: Operation) -> bool:
    return fnmatchcase(_fold(operation.kind), folded)


def _match_scope(pattern: str, operation: Operation) -> bool:
    return any(fnmatchcase(scope, pattern) for scope in operation.scopes)


def path(pattern: str) -> Selection:
    """Select operations whose path matches a pattern with shell wildcards: ``"down*"``, ``"blocks.?.conv1"``."""
    return Selection(pattern, partial(_match_path, pattern))


def op(kind: str) -> Selection:
    """Select operations of a kind, ignoring case and underscores: ``"Conv2d"``, ``"leaky_relu"``, ``"*norm*"``."""
    if not isinstance(kind, str):
        raise SelectionError(f"an operation kind is a text such as 'conv2d', not {type(kind).__name__}")
    return Selection(f"op:{kind}", partial(_match_kind, _fold(kind)))


def inside(module: str) -> Selection:
    """Select operations in a module, at any depth: ``"up3"``, ``"blocks.*"``. A leaf module is inside itself."""
    return Selection(f"inside:{module}", partial(_match_scope, module))


ALL_OPERATIONS = path("*")
"""All operations."""


def select(traced: nn.Module, selection: Selection | str) -> Operations:
    """Return the operations of a traced model that a selection matches, in order of execution.

    It leaves out operations that are known to compute no tensor, such as sizes. Raises SelectionError with a suggestion
    if no operation matches.
    """
    if isinstance(selection, str):
        selection = parse_selection(selection)
    if not isinstance(selection, Selection):
        raise SelectionError(f"a selection is a text or a surgery.Selection, not {type(selection).__name__}")
    candidates = operations(traced)
    chosen = Operations(each for each in candidates if each.tensors != () and selection.matches(each))
    if not chosen:
        if other := next(filter(selection.matches, candidates), None):
            raise SelectionError(f"{selection.text!r:.200} matches {other.path}, which computes no tensor")
        suggestion = _suggestion(selection, traced, candidates)
        raise SelectionError(f"{selection.text!r:.200} matches none of {len(candidates)} operations{suggestion}")
    chosen.matches = selection.matches
    return chosen


def select_all(traced: nn.Module, selections: Sequence[Selection | str]) -> Operations:
    """Return the operations that any of the selections matches. Raises SelectionError if one of them matches none."""
    parsed = [parse_selection(each) if isinstance(each, str) else each for each in selections]
    for selection in parsed:
        select(traced, selection)
    return select(traced, reduce(or_, parsed)) if parsed else Operations()


def parse_selection(text: str) -> Selection:
    """Return the selection that a text describes. Raises SelectionError with the position of a syntax error."""
    tokens = [match.group() for match in _TOKEN.finditer(text)]
    if len(tokens) > _MAX_TOKENS:
        raise SelectionError(f"a selection has at most {_MAX_TOKENS} patterns and operators, not {len(tokens)}")
    selection, rest = _parse_or(text, tokens)
    if rest:
        raise SelectionError(f"can't read the selection {text!r} at {rest[0]!r}; {_GRAMMAR}")
    return selection


_MAX_TOKENS = 200
"""Each token may be a level of recursion, of which Python allows about a thousand."""

_TOKEN = re.compile(r"[&|~()]|[^\s&|~()]+")
_GRAMMAR = "write patterns of paths, op:KIND and inside:MODULE, joined by & | ~ and ( )"
_ATOMS = {"path": path, "op": op, "inside": inside}


def _parse_or(text: str, tokens: Sequence[str]) -> tuple[Selection, Sequence[str]]:
    selection, tokens = _parse_and(text, tokens)
    while tokens and tokens[0] == "|":
        other, tokens = _parse_and(text, tokens[1:])
        selection |= other
    return selection, tokens


def _parse_and(text: str, tokens: Sequence[str]) -> tuple[Selection, Sequence[str]]:
    selection, tokens = _parse_atom(text, tokens)
    while tokens and tokens[0] == "&":
        other, tokens = _parse_atom(text, tokens[1:])
        selection &= other
    return selection, tokens


def _parse_atom(text: str, tokens: Sequence[str]) -> tuple[Selection, Sequence[str]]:
    if not tokens:
        raise SelectionError(f"the selection {text!r} ends where a pattern is expected; {_GRAMMAR}")
    token, rest = tokens[0], tokens[1:]
    if token == "~":
        selection, rest = _parse_atom(text, rest)
        return ~selection, rest
    if token == "(":
        selection, rest = _parse_or(text, rest)
        if not rest or rest[0] != ")":
            raise SelectionError(f"the selection {text!r} lacks a closing parenthesis")
        return selection, rest[1:]
    if token in ("&", "|", ")"):
        raise SelectionError(f"can't read the selection {text!r} at {token!r}; {_GRAMMAR}")
    prefix, colon, pattern = token.partition(":")
    if not colon:
        return path(token), rest
    if prefix not in _ATOMS or not pattern:
        raise SelectionError(f"can't read {token!r} in the selection {text!r}; {_GRAMMAR}")
    return _ATOMS[prefix](pattern), rest


def _suggestion(selection: Selection, traced: nn.Module, candidates: Sequence[Operation]) -> str:
    """Return a suggestion for the first pattern of a selection that matches no operation."""
    scopes = {scope for operation in candidates for scope in operation.scopes}
    classes: dict[str, list[str]] = {}
    for path, module in traced.named_modules():
        if path in scopes:
            classes.setdefault(type(module).__name__, []).append(path)
    for token in _TOKEN.findall(selection.text):
        if token in "&|~()" or any(parse_selection(token).matches(operation) for operation in candidates):
            continue
        if suggestion := suggest_selection(token, candidates, classes):
            return suggestion
    return "; `surgery inspect` lists them"


def _fold(kind: str) -> str:
    return kind.lower().replace("_", "")
