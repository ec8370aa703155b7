"""Values as JSON."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from surgery.text import escape_surrogates
from surgery.types import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.types import Picture


def as_json(value: Any) -> bytes:
    """Return a value as compact JSON in UTF-8. Arrays become lists; NaN and infinities become null."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # it holds a name that is not valid UTF-8
        return orjson.dumps(encodable(value), option=orjson.OPT_SERIALIZE_NUMPY)


def encodable(value: Any) -> Any:
    """Return a value with every text in it, in mappings, lists and tuples too, made valid UTF-8."""
    if isinstance(value, str):
        return escape_surrogates(value)
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    return type(value)(map(encodable, value)) if type(value) in (list, tuple) else value


def describe_codes() -> str:
    """Return in words how the codes of a picture become values."""
    top = LEVELS - 1
    return f"low + code / {top} * (high - low) for code <= {top}; 252 NaN, 253 -inf, 254 +inf, 255 none"


@lru_cache(maxsize=1)  # the text of a picture and the manifest need the same
def picture_limits(picture: Picture) -> Mapping[str, Any]:
    """Return the `low` and `high` of a picture for `as_json`, in the fewest digits that give the same float32.

    For one of several pictures of an activation, also the `channels` in it, its `part` and the number of `parts`. If it
    is known where the maps are, also the `tiles`.
    """
    both = np.array((picture.low, picture.high))
    with np.errstate(over="ignore"):
        narrow = both.astype(np.float32)
    low, high = narrow if narrow.astype(both.dtype).tobytes() == both.tobytes() else both
    place: dict[str, Any] = {"channels": picture.channels} if picture.channels is not None else {}
    if picture.part is not None:
        place |= {"part": picture.part[0], "parts": picture.part[1]}
    if picture.tiles is not None:
        place["tiles"] = picture.tiles
    return {**place, "low": orjson.Fragment(as_json(low)), "high": orjson.Fragment(as_json(high))}
