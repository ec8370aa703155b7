"""A writer of PNG files (PNG specification, third edition, W3C 2025) that is fast on indexed pictures.

Lines are compressed by ISA-L's deflate where `isal` can be imported, else by zlib: a picture of activations takes a
tenth of the time that a general encoder takes. Lines of palette pictures are not filtered, which makes smaller files of
them (the specification advises it, 12.7); those of RGB pictures are, by `up`.
"""

from __future__ import annotations

import os
import struct
import zlib
from functools import lru_cache
from threading import local
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from surgery.types import Picture

Bytes: TypeAlias = "bytes | memoryview"

_crc32 = zlib.crc32 if isal_zlib is None else isal_zlib.crc32
_adler32 = zlib.adler32 if isal_zlib is None else isal_zlib.adler32
_writev = getattr(os, "writev", None)  # which Windows has not
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE, _RGB = 3, 2
_NONE, _UP = 0, 2
_BLOCK = 0xFFFF
_MOST = 1024  # buffers that Linux takes at once
_SAMPLE = 1 << 13

NOISE = 0.7
"""What compresses to no less than this share is stored at level 1."""


def save_png(path: Path, picture: Picture, text: Mapping[str, bytes] | None = None, level: int = 1) -> None:
    """Write a picture to a PNG file, in one call, from the buffers that it was packed in. Raises OSError."""
    found = png_buffers(picture, text, level)
    file = os.open(path, _NEW, 0o666)  # which takes half as long as a file object, and a picture may be small
    try:
        done = _writev(file, found) if _writev is not None and len(found) <= _MOST else 0
        if done == sum(map(len, found)):
            return
        # A disk that is nearly full takes a part, and says so at the next.
        rest = memoryview(b"".join(found))[done:]
        while rest:
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)


def encode_png(picture: Picture, text: Mapping[str, bytes] | None = None, level: int = 1) -> bytes:
    """A picture as the bytes of a PNG file: what `png_buffers` gives, joined."""
    return b"".join(png_buffers(picture, text, level))


def png_buffers(picture: Picture, text: Mapping[str, bytes] | None = None, level: int = 1) -> list[Bytes]:
    """A picture as a PNG file: 8-bit palette or RGB, with UTF-8 `text` in a chunk each. To be written in order.

    `level` from 1 to 3 is isal's; 4 and more, to 9, are zlib's; 0 stores. At 1, texts are stored, and so is a picture
    of which a sample keeps more than `NOISE` of its size: packing them takes longer than writing what is spared. What
    is returned is good until the next call on this thread, which uses the same buffer.
    """
    height, width = picture.pixels.shape[:2]
    kind = _RGB if picture.palette is None else _PALETTE
    lines = _lines(picture)
    found: list[Bytes] = [_SIGNATURE, _header(width, height, kind)]
    if picture.palette is not None:
        found.append(_palette(picture.palette.tobytes()))
    for keyword, value in (text or {}).items():
        name = keyword.encode("latin-1")
        if level > 1:
            found += _chunk(b"iTXt", [name + b"\0\1\0\0\0", *_compressed(memoryview(value), level)])
        else:
            found += _chunk(b"iTXt", [name + b"\0\0\0\0\0", value])
    store = level == 0 or (level == 1 and not _shrinks(lines))
    data = lines.data.cast("B")
    found += _chunk(b"IDAT", _stored(data) if store else _compressed(data, level))
    return [*found, _END]


def _lines(picture: Picture) -> NDArray[np.uint8]:
    """``(H, 1 + W)`` or ``(H, 1 + 3 * W)``: each line as it is compressed, behind the number of its filter."""
    if picture.scanlines is not None and picture.scanlines.flags.c_contiguous:
        return picture.scanlines
    rows = picture.pixels.reshape(len(picture.pixels), -1)
    lines = _scratch.of(len(rows), rows.shape[1] + 1)
    if picture.palette is None:
        lines[:, 0] = _UP
        lines[:1, 1:] = rows[:1]
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    else:
        lines[:, 0] = _NONE
        lines[:, 1:] = rows
    return lines


@lru_cache(maxsize=64)  # since the pictures of a run have few sizes
def _header(width: int, height: int, kind: int) -> bytes:
    return b"".join(_chunk(b"IHDR", [struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)]))


@lru_cache(maxsize=64)
def _palette(colors: bytes) -> bytes:
    return b"".join(_chunk(b"PLTE", [colors]))


class _Scratch(local):
    """A buffer for the lines of a picture, which stays in the cache."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, height: int, width: int) -> NDArray[np.uint8]:
        if len(self._bytes) < height * width:
            self._bytes = np.empty(height * width, np.uint8)
        return self._bytes[: height * width].reshape(height, width)


_scratch = _Scratch()


def _compressed(data: memoryview, level: int) -> list[Bytes]:
    """A zlib stream (RFC 1950)."""
    return [isal_zlib.compress(data, level) if isal_zlib is not None and level <= 3 else zlib.compress(data, level)]


def _stored(data: memoryview) -> list[Bytes]:
    """A zlib stream of stored blocks (RFC 1951, 3.2.4)."""
    found: list[Bytes] = [b"\x78\x01"]
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        found += [struct.pack("<BHH", start + _BLOCK >= len(data), len(block), len(block) ^ _BLOCK), block]
    return [*found, struct.pack(">I", _adler32(data))]


def _shrinks(lines: NDArray[np.uint8]) -> bool:
    """Whether lines from all over a large picture become smaller than `NOISE`."""
    if lines.size <= 8 * _SAMPLE:
        return True
    count = max(1, _SAMPLE // lines.shape[1])
    sample = np.ascontiguousarray(lines[:: max(1, len(lines) // count)][:count])
    return len(_compressed(sample.data.cast("B"), 1)[0]) < NOISE * sample.size


def _chunk(kind: bytes, data: list[Bytes]) -> list[Bytes]:
    check = _crc32(kind)
    for part in data:
        check = _crc32(part, check)
    return [struct.pack(">I", sum(map(len, data))), kind, *data, struct.pack(">I", check)]


_END = b"".join(_chunk(b"IEND", []))
