"""Values as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from numpy.typing import NDArray


def as_json(value: Any) -> bytes:
    """A value as compact JSON in UTF-8; arrays are lists, what is no number is null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def short(numbers: NDArray[np.float64]) -> NDArray[np.floating[Any]]:
    """Numbers as float32, which takes fewer digits, where that is what they are."""
    narrow = numbers.astype(np.float32)
    return narrow if (narrow == numbers).all() else np.ascontiguousarray(numbers)
