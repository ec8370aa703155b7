"""A writer of PNG files (PNG specification, third edition, W3C 2025) that is fast on indexed pictures.

Rows are filtered by `up` and compressed by ISA-L's deflate where `isal` can be imported, else by zlib: a picture of
activations takes a tenth of the time that a general encoder takes, for a file of about the same size.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from surgery.types import Picture

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE, _RGB = 3, 2
_UP = 2


def encode(picture: Picture, text: Mapping[str, str] | None = None, level: int = 1) -> bytes:
    """A picture as the bytes of a PNG file: 8-bit palette or RGB, with `text` in compressed UTF-8 chunks.

    `level` from 0 to 3 is isal's; 4 and more, to 9, are zlib's.
    """
    compress = _compressor(level)
    pixels = np.ascontiguousarray(picture.pixels)
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _UP
    filtered[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    kind = _RGB if picture.palette is None else _PALETTE
    parts = [_SIGNATURE, _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if picture.palette is not None:
        parts.append(_chunk(b"PLTE", picture.palette.tobytes()))
    parts += [
        _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\1\0\0\0" + zlib.compress(value.encode(), 1))
        for keyword, value in (text or {}).items()
    ]
    parts += [_chunk(b"IDAT", compress(filtered.data)), _chunk(b"IEND", b"")]
    return b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def _compressor(level: int) -> Callable[[memoryview], bytes]:
    if level <= 3:
        try:
            from isal import isal_zlib
        except ImportError:
            level = 1
        else:
            return lambda data: isal_zlib.compress(data, level)
    return lambda data: zlib.compress(data, level)
