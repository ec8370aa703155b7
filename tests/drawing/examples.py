"""A drawing, and the chunks of a PNG file, for the tests."""

from __future__ import annotations

import struct
import zlib
from typing import Any

from torch import Tensor

from surgery.builtin.normalizers import MinMax
from surgery.builtin.tilers import Grid
from surgery.drawing.batch_drawing import BatchDrawing
from surgery.stages import Recipe
from surgery.types import Operation

OPERATION = Operation("f", "f", "f", 1)


def make_drawing(values: Tensor, **stages: Any) -> BatchDrawing:
    """Return a drawing of the values with other stages than the default ones."""
    return BatchDrawing(values, Recipe(stages.pop("normalizer", MinMax()), stages.pop("tiler", Grid()), **stages))


def png_chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    """The kinds and contents of the chunks of a PNG file, whose checksums have to be right."""
    found, place = [], 8
    while place < len(file):
        (size,) = struct.unpack_from(">I", file, place)
        whole = file[place + 4 : place + 8 + size]
        assert struct.unpack_from(">I", file, place + 8 + size) == (zlib.crc32(whole),)
        found.append((whole[:4], whole[4:]))
        place += 12 + size
    return found
