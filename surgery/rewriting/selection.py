"""Which operations: predicates that combine, and the small language in which the command line writes them.

down*                     operations whose path matches (shell wildcards; * matches dots too)
op:conv2d                 operations of a kind, whether module, function or method
inside:up3                operations in a module, at any depth
~a    a & b    a | b      not, and, or, binding in this order;  ( ) group
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
    """A predicate over operations. Combine with ``&``, ``|`` and ``~``; apply with `select`."""

    text: str
    """The selection as the command line would write it."""
    matches: Callable[[Operation], bool]

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
    """Operations whose path matches a pattern with the wildcards of a shell: ``"down*"``, ``"blocks.?.conv1"``."""
    return Selection(pattern, lambda operation: fnmatchcase(operation.path, pattern))


def op(kind: str) -> Selection:
    """Operations of a kind, in any case, underscores or not: ``"Conv2d"``, ``"leaky_relu"``, ``"*norm*"``."""
    if not isinstance(kind, str):
        raise SelectionError(f"a kind of operations is a text such as 'conv2d', not {type(kind).__name__}")
    folded = _fold(kind)
    return Selection(f"op:{kind}", lambda operation: fnmatchcase(_fold(operation.kind), folded))


def inside(module: str) -> Selection:
    """Operations in a module, at any depth: ``"up3"``, ``"blocks.*"``. A leaf module is inside itself."""
    return Selection(
        f"inside:{module}",
        lambda operation: any(fnmatchcase(scope, module) for scope in operation.scopes),
    )


ALL_OPERATIONS = path("*")
"""All operations."""


def select(traced: fx.GraphModule, selection: Selection | str) -> Operations:
    """The operations of a graph that a selection matches, in order of execution.

    Operations that are known to compute no tensor (sizes, say) are left out. Raises SelectionError, with near misses,
    where none is left.
    """
    if isinstance(selection, str):
        selection = parse_selection(selection)
    if not isinstance(selection, Selection):
        raise SelectionError(f"a selection is a text or a surgery.Selection, not {type(selection).__name__}")
    known = operations(traced)
    chosen = Operations(operation for operation in known if operation.tensors != () and selection.matches(operation))
    if not chosen:
        raise SelectionError(
            f"{selection.text!r} matches none of {len(known)} operations{_near(selection, traced, known)}"
        )
    return chosen


def parse_selection(text: str) -> Selection:
    """A selection from its text. Raises SelectionError that shows where the text goes wrong."""
    tokens = [match.group() for match in _TOKEN.finditer(text)]
    if len(tokens) > _MOST:
        raise SelectionError(f"a selection of {len(tokens)} patterns and signs is too long; {_MOST} are the most")
    selection, rest = _either(text, tokens)
    if rest:
        raise SelectionError(f"can't read the selection {text!r} at {rest[0]!r}; {_GRAMMAR}")
    return selection


_MOST = 200
"""Patterns and signs in a selection: each may be a level of nesting, and Python has some thousand for all."""

_TOKEN = re.compile(r"[&|~()]|[^\s&|~()]+")
_GRAMMAR = "write patterns of paths, op:KIND and inside:MODULE, joined by & | ~ and ( )"
_ATOMS = {"path": path, "op": op, "inside": inside}


def _either(text: str, tokens: Sequence[str]) -> tuple[Selection, Sequence[str]]:
    selection, tokens = _both(text, tokens)
    while tokens and tokens[0] == "|":
        other, tokens = _both(text, tokens[1:])
        selection |= other
    return selection, tokens


def _both(text: str, tokens: Sequence[str]) -> tuple[Selection, Sequence[str]]:
    selection, tokens = _one(text, tokens)
    while tokens and tokens[0] == "&":
        other, tokens = _one(text, tokens[1:])
        selection &= other
    return selection, tokens


def _one(text: str, tokens: Sequence[str]) -> tuple[Selection, Sequence[str]]:
    if not tokens:
        raise SelectionError(f"the selection {text!r} ends where a pattern is expected; {_GRAMMAR}")
    token, rest = tokens[0], tokens[1:]
    if token == "~":
        selection, rest = _one(text, rest)
        return ~selection, rest
    if token == "(":
        selection, rest = _either(text, rest)
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


def _near(selection: Selection, traced: fx.GraphModule, known: Sequence[Operation]) -> str:
    """What may have been meant by the first part of a selection that matches nothing."""
    classes: dict[str, dict[str, None]] = {}
    for node in traced.graph.nodes:
        for path, kind in node.meta.get("nn_module_stack", {}).values():
            classes.setdefault(getattr(kind, "__name__", str(kind).rpartition(".")[2]), {})[path] = None
    for token in _TOKEN.findall(selection.text):
        if token in "&|~()" or any(parse_selection(token).matches(operation) for operation in known):
            continue
        if near := suggest_selection(token, known, {name: list(paths) for name, paths in classes.items()}):
            return near
    return "; `surgery inspect` lists them"


def _fold(kind: str) -> str:
    return kind.lower().replace("_", "")
