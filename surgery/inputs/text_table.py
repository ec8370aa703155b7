"""Many texts in little memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from surgery.text import LazySequence

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ENCODING = "utf-8", "surrogatepass"


@dataclass(frozen=True, slots=True, eq=False)
class TextTable(LazySequence[str]):
    """A sequence of texts that takes their bytes in UTF-8, and 4 more for each (8 above 4 GiB)."""

    content: bytes
    ends: np.ndarray
    """Where each text ends in `content`."""

    @classmethod
    def of(cls, texts: Iterable[str]) -> TextTable:
        """Return a table of these texts."""
        content, ends = bytearray(), array("q")
        for text in texts:
            content += text.encode(*_ENCODING)
            ends.append(len(content))
        return cls(bytes(content), np.array(ends, np.uint32 if len(content) < 2**32 else np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self.ends.data:
            yield self.content[start:end].decode(*_ENCODING)
            start = end

    def item(self, number: int) -> str:
        """Return the text with a number."""
        start = int(self.ends[number - 1]) if number else 0
        return self.content[start : int(self.ends[number])].decode(*_ENCODING)
