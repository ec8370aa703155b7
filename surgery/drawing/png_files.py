"""A writer of PNG files (PNG specification, third edition, W3C 2025) that is fast on indexed pictures.

At levels 1 to 3, pixels are packed by the compiled kernels, in an eighth of the time that zlib takes at level 1. zlib
packs them at higher levels, and where there was no compiler. Lines of palette pictures are not filtered, which makes
their files smaller (section 12.7 of the specification advises it). Lines of RGB pictures have the filter `up`.
"""

from __future__ import annotations

import os
import struct
import zlib
from functools import lru_cache
from threading import local
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from surgery.drawing import compiled_kernels
from surgery.output import FileDigest, digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from surgery.types import Picture

Bytes: TypeAlias = "bytes | memoryview"

_writev = getattr(os, "writev", None)  # not on Windows
_OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE_COLOR, _RGB_COLOR = 3, 2
_NO_FILTER, _UP_FILTER = 0, 2
_MAX_STORED_BLOCK = 0xFFFF
_MAX_BUFFERS = 1024  # of one call of writev on Linux
_SAMPLE_SIZE = 1 << 13
_MAX_CHUNK = (1 << 31) - 1  # section 5.3 of the specification
_MAX_PACKED = _MAX_CHUNK - (1 << 18)  # the kernels write one chunk, which may be larger than the pixels

NOISE = 0.7
"""Pictures that zlib compresses to this share of their size or more are stored at level 1."""


def save_png(path: Path, picture: Picture, text: Mapping[str, bytes] | None = None, level: int = 1) -> FileDigest:
    """Write a picture to a PNG file. `encode_png` explains `text` and `level`. Raises OSError."""
    return save_lines(path, _filtered_lines(picture), picture.palette, text, level)


def save_lines(
    path: Path,
    lines: NDArray[np.uint8],
    palette: NDArray[np.uint8] | None,
    text: Mapping[str, bytes] | None = None,
    level: int = 1,
) -> FileDigest:
    """Write a picture whose lines each begin with the byte of their filter to a PNG file. Raises OSError.

    The lines are ``(H, 1 + W)`` codes into the palette ``(256, 3)``, or ``(H, 1 + 3 * W)`` RGB without one.
    `encode_png` explains `text` and `level`.
    """
    head, kernels = _head(lines, palette, text, level), compiled_kernels.kernels
    if not _is_packed_by_kernels(lines, level):
        return _write(path, [head, *_pixel_chunks(lines, level), _END_CHUNK])
    arguments = head, lines, lines.shape[1], _pixel_bytes(palette), level == 1
    if not hasattr(kernels, "write_png"):
        return _write(path, [kernels.encode_png(*arguments)])
    crc32, size = kernels.write_png(path, *arguments)  # packed and written in one call without the interpreter's lock
    return FileDigest(f"{crc32:08x}", size)


def encode_png(picture: Picture, text: Mapping[str, bytes] | None = None, level: int = 1) -> bytes:
    """Return a picture as the bytes of a PNG file (8-bit palette or RGB).

    `text` maps a keyword to UTF-8. Each pair becomes a chunk. `level` 0 stores, 1 to 3 pack fast, and 4 to 9 are those
    of zlib. At level 1, texts are stored. So are pixels of noise, since packing them would take longer than writing the
    bytes that it saves.
    """
    lines, palette = _filtered_lines(picture), picture.palette
    head = _head(lines, palette, text, level)
    if _is_packed_by_kernels(lines, level):
        return compiled_kernels.kernels.encode_png(head, lines, lines.shape[1], _pixel_bytes(palette), level == 1)
    return b"".join([head, *_pixel_chunks(lines, level), _END_CHUNK])


def _write(path: Path, buffers: list[Bytes]) -> FileDigest:
    digest = digest_of(buffers)
    file = os.open(path, _OPEN_FLAGS, 0o666)  # half the time of a file object, which counts for small pictures
    try:
        written = _writev(file, buffers) if _writev is not None and len(buffers) <= _MAX_BUFFERS else 0
        if written == digest.size:
            return digest
        # A disk that is almost full takes a part. The next write raises.
        rest = memoryview(b"".join(buffers))[written:]
        while rest:
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)
    return digest


def _is_packed_by_kernels(lines: NDArray[np.uint8], level: int) -> bool:
    return 1 <= level <= 3 and compiled_kernels.kernels is not None and lines.size < _MAX_PACKED


def _pixel_bytes(palette: NDArray[np.uint8] | None) -> int:
    return 3 if palette is None else 1


def _head(
    lines: NDArray[np.uint8], palette: NDArray[np.uint8] | None, text: Mapping[str, bytes] | None, level: int
) -> bytes:
    """Return all that precedes the pixels."""
    height, size = lines.shape[0], lines.shape[1] - 1
    if palette is None:
        chunks: list[Bytes] = [_SIGNATURE, _header_chunk(size // 3, height, _RGB_COLOR)]
    else:
        chunks = [_SIGNATURE, _header_chunk(size, height, _PALETTE_COLOR), _palette_chunk(palette.tobytes())]
    for keyword, value in (text or {}).items():
        name = keyword.encode("latin-1")
        if level > 1:
            chunks += _chunk(b"iTXt", [name + b"\0\1\0\0\0", zlib.compress(value, level)])
        else:
            chunks += _chunk(b"iTXt", [name + b"\0\0\0\0\0", value])
    return b"".join(chunks)


def _pixel_chunks(lines: NDArray[np.uint8], level: int) -> list[Bytes]:
    """Return the chunks of the pixels without the compiled kernels."""
    data = lines.data.cast("B")
    is_stored = level == 0 or (level == 1 and not _is_compressible(lines))
    chunks: list[Bytes] = []
    waiting: list[Bytes] = []
    size = 0
    for part in _stored(data) if is_stored else [zlib.compress(data, level)]:
        rest = memoryview(part)
        while size + len(rest) > _MAX_CHUNK:
            cut = _MAX_CHUNK - size
            chunks += _chunk(b"IDAT", [*waiting, rest[:cut]])
            waiting, size, rest = [], 0, rest[cut:]
        waiting.append(rest)
        size += len(rest)
    return [*chunks, *_chunk(b"IDAT", waiting)]


def _filtered_lines(picture: Picture) -> NDArray[np.uint8]:
    """Return the lines to compress, ``(H, 1 + W)`` or ``(H, 1 + 3 * W)``. The first byte of each is its filter."""
    if picture.scanlines is not None and picture.scanlines.flags.c_contiguous:
        return picture.scanlines
    rows = picture.pixels.reshape(len(picture.pixels), -1)
    lines = _line_buffer.get(len(rows), rows.shape[1] + 1)
    if picture.palette is None:
        lines[:, 0] = _UP_FILTER
        lines[:1, 1:] = rows[:1]
        np.subtract(rows[1:], rows[:-1], out=lines[1:, 1:])
    else:
        lines[:, 0] = _NO_FILTER
        lines[:, 1:] = rows
    return lines


@lru_cache(maxsize=64)  # the pictures of a run have few sizes
def _header_chunk(width: int, height: int, color_type: int) -> bytes:
    return b"".join(_chunk(b"IHDR", [struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)]))


@lru_cache(maxsize=64)
def _palette_chunk(colors: bytes) -> bytes:
    return b"".join(_chunk(b"PLTE", [colors]))


class _LineBuffer(local):
    """Memory for the lines of a picture, one for each thread. It is reused, so that it stays in the cache."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def get(self, height: int, width: int) -> NDArray[np.uint8]:
        if len(self._bytes) < height * width:
            self._bytes = np.empty(height * width, np.uint8)
        return self._bytes[: height * width].reshape(height, width)


_line_buffer = _LineBuffer()


def _stored(data: memoryview) -> list[Bytes]:
    """Return a zlib stream of stored blocks (RFC 1951, section 3.2.4)."""
    stream: list[Bytes] = [b"\x78\x01"]
    for start in range(0, len(data), _MAX_STORED_BLOCK):
        block = data[start : start + _MAX_STORED_BLOCK]
        is_last, size = start + _MAX_STORED_BLOCK >= len(data), len(block)
        stream += [struct.pack("<BHH", is_last, size, size ^ 0xFFFF), block]
    return [*stream, struct.pack(">I", zlib.adler32(data))]


def _is_compressible(lines: NDArray[np.uint8]) -> bool:
    """Whether a sample of lines compresses to less than `NOISE` of its size. True for small pictures."""
    if lines.size <= 8 * _SAMPLE_SIZE:
        return True
    count = max(1, _SAMPLE_SIZE // lines.shape[1])
    sample = np.ascontiguousarray(lines[:: max(1, len(lines) // count)][:count])
    return len(zlib.compress(sample.data, 1)) < NOISE * sample.size


def _chunk(kind: bytes, data: list[Bytes]) -> list[Bytes]:
    check = zlib.crc32(kind)
    for part in data:
        check = zlib.crc32(part, check)
    return [struct.pack(">I", sum(map(len, data))), kind, *data, struct.pack(">I", check)]


_END_CHUNK = b"".join(_chunk(b"IEND", []))
