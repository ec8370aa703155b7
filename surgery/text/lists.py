"""Lists of names, and numbers of things, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterable


def abbreviate_list(names: Iterable[object], limit: int = 3) -> str:
    """Return the first `limit` names separated by commas, and the number of the others: ``a, b, c and 4 more``."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:limit])
    return f"{shown} and {len(texts) - limit} more" if len(texts) > limit else shown


def format_count(number: int, noun: str) -> str:
    """Return a number and its noun: ``1 image``, ``3 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_bytes(number: float) -> str:
    """Return a number of bytes with three digits and a decimal unit: ``812 B``, ``4.07 MB``."""
    unit, *larger = ("B", "kB", "MB", "GB", "TB", "PB")
    while number >= 999.5 and larger:
        number, unit, *larger = number / 1000, *larger
    return f"{number:.0f} {unit}" if unit == "B" or number >= 99.95 else f"{number:.3g} {unit}"


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts texts by the numbers in them: ``5_net_G.pth``, ``10_net_G.pth``, ``latest_net_G.pth``."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", text)]
