"""Values as JSON."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from surgery.text import escape_surrogates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.types import Picture


def as_json(value: Any) -> bytes:
    """A value as compact JSON in UTF-8; arrays are lists, what is no number is null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # a name that is no UTF-8 is in it
        return orjson.dumps(encodable(value), option=orjson.OPT_SERIALIZE_NUMPY)


def encodable(value: Any) -> Any:
    """A value whose texts, in mappings, lists and tuples too, can be encoded as UTF-8."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return type(value)(map(encodable, value)) if type(value) in (list, tuple) else value


@lru_cache(maxsize=1)  # since a picture's own text and the manifest ask one after the other
def picture_limits(picture: Picture) -> Mapping[str, Any]:
    """The `low` and `high` of a picture, for `as_json`: in the shortest digits that give their float32 back.

    Of one of several pictures, the `channels` in it as well, and which `part` it is, of how many.
    """
    both = np.array((picture.low, picture.high))
    with np.errstate(over="ignore"):
        narrow = both.astype(np.float32)
    low, high = narrow if narrow.astype(both.dtype).tobytes() == both.tobytes() else both
    place: dict[str, Any] = {"channels": picture.channels} if picture.channels is not None else {}
    if picture.part is not None:
        place |= {"part": picture.part[0], "parts": picture.part[1]}
    return {**place, "low": orjson.Fragment(as_json(low)), "high": orjson.Fragment(as_json(high))}
