"""What somebody may have meant whose selection matches nothing."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from surgery.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.types import Operation

_NUMBER = re.compile(r"[a-z]?0*(\d+)(?:$|-.*)")
"""A number, as a table has it, or the name of a picture: ``012-down1.conv.png``."""


def suggest_selection(token: str, known: Sequence[Operation], classes: Mapping[str, Sequence[str]]) -> str:
    """``"; did you mean 'down*'?"`` for a part of a selection that matches nothing, or nothing.

    `classes` are the paths of the modules of each class.
    """
    prefix = next((prefix for prefix in ("op:", "inside:") if token.startswith(prefix)), "")
    pattern = token.removeprefix(prefix)
    paths = [operation.path for operation in known]
    kinds = sorted({operation.kind for operation in known})
    scopes = list(dict.fromkeys(scope for operation in known for scope in operation.scopes))
    names = {"": paths, "op:": kinds, "inside:": scopes}[prefix]
    meant = (
        _in_another_case(prefix, pattern, names)
        or _of_another_sort(pattern, paths, kinds, scopes)
        or _by_number(pattern, known)
        or _beginning(prefix, pattern, names)
        or _by_class(pattern, classes)
        or _inside(prefix, pattern, names)
    )
    if meant:
        return f"; did you mean {meant!r}?"
    stem, star, _ = pattern.partition("*")
    near = did_you_mean(stem, {name[: len(stem)] for name in names} if star else names).replace("'", f"'{prefix}", 1)
    return f"{near[:-2]}{star}{near[-2:]}" if near else ""


def _in_another_case(prefix: str, pattern: str, names: Sequence[str]) -> str | None:
    """The pattern as the names have it; of one with wildcards its letters in lower case."""
    found = next((name for name in names if name.lower() == pattern.lower()), None)
    if found is None and any(fnmatchcase(name, pattern.lower()) for name in names):
        found = pattern.lower()
    return f"{prefix}{found}" if found is not None else None


def _of_another_sort(pattern: str, paths: Sequence[str], kinds: Sequence[str], scopes: Sequence[str]) -> str | None:
    """A path that was said to be a kind, a kind that was taken for a path, and so on."""
    if pattern in paths:
        return pattern
    if pattern in scopes:
        return f"inside:{pattern}"
    folded = pattern.lower().replace("_", "")
    found = next((kind for kind in kinds if fnmatchcase(kind.lower().replace("_", ""), folded)), None)
    return f"op:{pattern if '*' in pattern else found}" if found is not None else None


def _by_number(pattern: str, known: Sequence[Operation]) -> str | None:
    """The path of the operation that a table or the name of a picture has this number for."""
    number = _NUMBER.match(pattern)
    return next((each.path for each in known if number and each.index == int(number[1])), None)


def _by_class(pattern: str, classes: Mapping[str, Sequence[str]]) -> str | None:
    folded = {name.lower(): paths for name, paths in classes.items()}
    paths = [path for path in folded.get(pattern.lower(), ()) if path]
    return f"inside:{paths[0]}" if paths else None


def _beginning(prefix: str, pattern: str, names: Sequence[str]) -> str | None:
    if not pattern or "*" in pattern or "?" in pattern:
        return None
    found = next((name for name in names if name.lower().startswith(pattern.lower())), None)
    return f"{prefix}{found[: len(pattern)]}*" if found is not None else None


def _inside(prefix: str, pattern: str, names: Sequence[str]) -> str | None:
    found = len(pattern) > 2 and any(pattern.lower() in name for name in names)
    return f"{prefix}*{pattern.lower()}*" if found else None
