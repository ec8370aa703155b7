"""Names with braces, which stand for several: ``shard-{000000..000099}.tar``, ``{train,test}.tar``."""

from __future__ import annotations

import re

from surgery.errors import ImageError

_BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<texts>[^{}]*,[^{}]*))\}")
_MAX_NAMES = 1_000_000


def expand_braces(name: str) -> list[str]:
    """Return the names that a name with braces stands for, in order; a list of the name itself for one without.

    In braces there is a range of numbers, or there are texts with commas between them. The numbers have as many digits
    as the longer end of the range if one of the ends begins with 0. Raises ImageError for more than a million names.
    """
    names, end = [""], 0
    for found in _BRACES.finditer(name):
        before, end = name[end : found.start()], found.end()
        count = abs(int(found["last"]) - int(found["first"])) + 1 if found["texts"] is None else 1
        options = _options(found) if count <= _MAX_NAMES else []
        if not 0 < len(names) * len(options) <= _MAX_NAMES:
            raise ImageError(f"{name} stands for more than {_MAX_NAMES:,} files")
        names = [f"{start}{before}{option}" for start in names for option in options]
    return [f"{start}{name[end:]}" for start in names]


def _options(found: re.Match[str]) -> list[str]:
    """Return what a pair of braces stands for."""
    if found["texts"] is not None:
        return found["texts"].split(",")
    first, last = found["first"], found["last"]
    step = 1 if int(first) <= int(last) else -1
    is_padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
    digits = max(len(first), len(last)) if is_padded else 0
    return [f"{number:0{digits}}" for number in range(int(first), int(last) + step, step)]
