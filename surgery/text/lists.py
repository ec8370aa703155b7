"""Lists of names in a sentence."""

from __future__ import annotations

from collections.abc import Iterable


def abbreviate_list(names: Iterable[object], limit: int = 3) -> str:
    """Return the first `limit` names separated by commas, and the number of the others: ``a, b, c and 4 more``."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:limit])
    return f"{shown} and {len(texts) - limit} more" if len(texts) > limit else shown
