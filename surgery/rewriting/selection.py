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
from typing import TYPE_CHECKING

from surgery.errors import SelectionError
from surgery.graph import Operations, operations
from surgery.rewriting.suggestions import suggest_selection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import fx

    from surgery.types import Operation


@dataclass(frozen=True, slots=True)
class Selection:
    """A predicate over operations. Combine it with ``&``, ``|`` and ``~``, and apply it with `select`."""

    text: str
    """The selection in the language of the command line."""
    matches: Callable[[Operation], bool]
    """Whether an operation is selected."""

    def __and__(self, other: Selection) -> Selection:
        left, right = self.matches, other.matches
        return Selection(f"({self.text} & {other.text})", lambda operation: left(operation) and right(operation))

    def __or__(self, other: Selection) -> Selection:
        left, right = self.matches, other.matches
        return Selection(f"({self.text} | {other.text})", lambda operation: left(operation) or right(operation))

    def __invert__(self) -> Selection:
        matches = self.matches
        return Selection(f"~{self.text}", lambda operation: not matches(operation))

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Selection({self.text!r})"


def path(pattern: str) -> Selection:
    """Select operations whose path matches a pattern with shell wildcards: ``"down*"``, ``"blocks.?.conv1"``."""
    return Selection(pattern, lambda operation: fnmatchcase(operation.path, pattern))


def op(kind: str) -> Selection:
    """Select operations of a kind, ignoring case and underscores: ``"Conv2d"``, ``"leaky_relu"``, ``"*norm*"``."""
    if not isinstance(kind, str):
        raise SelectionError(f"an operation kind is a text such as 'conv2d', not {type(kind).__name__}")
    folded = _fold(kind)
    return Selection(f"op:{kind}", lambda operation: fnmatchcase(_fold(operation.kind), folded))


def inside(module: str) -> Selection:
    """Select operations in a module, at any depth: ``"up3"``, ``"blocks.*"``. A leaf module is inside itself."""
    return Selection(
        f"inside:{module}",
        lambda operation: any(fnmatchcase(scope, module) for scope in operation.scopes),
    )


ALL_OPERATIONS = path("*")
"""All operations."""


def select(traced: fx.GraphModule, selection: Selection | str) -> Operations:
    """Return the operations of a graph that a selection matches, in order of execution.

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
        suggestion = _suggestion(selection, traced, candidates)
        raise SelectionError(f"{selection.text!r} matches none of {len(candidates)} operations{suggestion}")
    return chosen


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


def _suggestion(selection: Selection, traced: fx.GraphModule, candidates: Sequence[Operation]) -> str:
    """Return a suggestion for the first pattern of a selection that matches no operation."""
    classes: dict[str, dict[str, None]] = {}
    for node in traced.graph.nodes:
        for path, kind in node.meta.get("nn_module_stack", {}).values():
            classes.setdefault(getattr(kind, "__name__", str(kind).rpartition(".")[2]), {})[path] = None
    for token in _TOKEN.findall(selection.text):
        if token in "&|~()" or any(parse_selection(token).matches(operation) for operation in candidates):
            continue
        if suggestion := suggest_selection(token, candidates, {name: list(paths) for name, paths in classes.items()}):
            return suggestion
    return "; `surgery inspect` lists them"


def _fold(kind: str) -> str:
    return kind.lower().replace("_", "")
