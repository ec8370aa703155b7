"""Suggestions for a selection that matches nothing."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from surgery.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.types import Operation

_NUMBER = re.compile(r"[a-z]?0*(\d+)(?:$|-.*)")
"""The number of an operation as a table writes it, or the file name of a picture: ``012-down1.conv.png``."""


def suggest_selection(pattern: str, candidates: Sequence[Operation], classes: Mapping[str, Sequence[str]]) -> str:
    """Return ``"; did you mean 'down*'?"`` for a pattern that matches none of the candidates.

    The result is empty if there is nothing to suggest. `classes` has the paths of the modules of each class.
    """
    prefix = next((prefix for prefix in ("op:", "inside:") if pattern.startswith(prefix)), "")
    body = pattern.removeprefix(prefix)
    paths = [operation.path for operation in candidates]
    kinds = sorted({operation.kind for operation in candidates})
    scopes = list(dict.fromkeys(scope for operation in candidates for scope in operation.scopes))
    names = {"": paths, "op:": kinds, "inside:": scopes}[prefix]
    meant = (
        _in_other_case(prefix, body, names)
        or _with_other_prefix(body, paths, kinds, scopes)
        or _by_number(body, candidates)
        or _by_beginning(prefix, body, names)
        or _by_class(body, classes)
        or _by_substring(prefix, body, names)
    )
    if meant:
        return f"; did you mean {meant!r}?"
    stem, star, _ = body.partition("*")
    beginnings = {name[: len(stem)] for name in names} if star else names
    similar = did_you_mean(stem, beginnings).replace("'", f"'{prefix}", 1)
    return f"{similar[:-2]}{star}{similar[-2:]}" if similar else ""


def _in_other_case(prefix: str, pattern: str, names: Sequence[str]) -> str | None:
    match = next((name for name in names if name.lower() == pattern.lower()), None)
    if match is None and any(fnmatchcase(name, pattern.lower()) for name in names):
        match = pattern.lower()
    return f"{prefix}{match}" if match is not None else None


def _with_other_prefix(pattern: str, paths: Sequence[str], kinds: Sequence[str], scopes: Sequence[str]) -> str | None:
    """Return the selection for a path that was written as a kind, a kind that was written as a path, and so on."""
    if pattern in paths:
        return pattern
    if pattern in scopes:
        return f"inside:{pattern}"
    folded = pattern.lower().replace("_", "")
    kind = next((kind for kind in kinds if fnmatchcase(kind.lower().replace("_", ""), folded)), None)
    return f"op:{pattern if '*' in pattern else kind}" if kind is not None else None


def _by_number(pattern: str, candidates: Sequence[Operation]) -> str | None:
    number = _NUMBER.match(pattern)
    return next((each.path for each in candidates if number and each.index == int(number[1])), None)


def _by_class(pattern: str, classes: Mapping[str, Sequence[str]]) -> str | None:
    folded = {name.lower(): paths for name, paths in classes.items()}
    paths = [path for path in folded.get(pattern.lower(), ()) if path]
    return f"inside:{paths[0]}" if paths else None


def _by_beginning(prefix: str, pattern: str, names: Sequence[str]) -> str | None:
    if not pattern or "*" in pattern or "?" in pattern:
        return None
    match = next((name for name in names if name.lower().startswith(pattern.lower())), None)
    return f"{prefix}{match[: len(pattern)]}*" if match is not None else None


def _by_substring(prefix: str, pattern: str, names: Sequence[str]) -> str | None:
    is_part = len(pattern) > 2 and any(pattern.lower() in name for name in names)
    return f"{prefix}*{pattern.lower()}*" if is_part else None
