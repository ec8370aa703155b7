"""Animated pictures: indexed or RGB frames are written as APNG one at a time, and converted to WebP by Pillow.

APNG is the animation of the PNG specification, third edition (W3C 2025). Each frame is a full picture with the palette.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from surgery.errors import RenderError
from surgery.types import BACKGROUND
from surgery_video.formats import check_options

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from surgery import Picture
    from surgery_video.formats import Format

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MILLISECONDS = 1000


def animate(
    pictures: Sequence[Picture],
    path: str | os.PathLike[str],
    *,
    fps: float = 4,
    format: Format = "apng",  # noqa: A002
) -> None:
    """Write pictures as an animation that repeats endlessly, with `fps` frames per second, 0.1 to 100.

    A picture that is smaller than the largest gets background on the right and below. Raises RenderError if there is no
    picture, if palettes differ, or if some pictures are indexed and some RGB, and OutputError for options that are out
    of range.
    """
    check_options(fps, format)
    if not pictures:
        raise RenderError("an animation has at least one picture")
    size = frame_size([picture.pixels.shape[:2] for picture in pictures])
    with animation(Path(path), len(pictures), size, fps=fps, format=format) as add:
        for picture in pictures:
            add(picture)


def frame_size(sizes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return the height and width that hold pictures of all these heights and widths."""
    return max(height for height, _ in sizes), max(width for _, width in sizes)


@contextmanager
def animation(
    path: Path,
    count: int,
    size: tuple[int, int],
    *,
    fps: float,
    format: Format,  # noqa: A002
    note: Mapping[str, Any] | None = None,
) -> Iterator[Callable[[Picture], None]]:
    """Yield a function that adds the next of `count` frames of size (height, width) to an animation.

    An APNG contains `note` as JSON in a text chunk ``surgery``.
    """
    with path.open("w+b") if format == "apng" else TemporaryFile(dir=path.parent) as file:
        frames = _ApngWriter(file, count, size, fps, note)
        yield frames.add
        frames.close()
        if format == "webp":
            file.seek(0)
            with Image.open(file) as apng:  # Pillow reads one frame at a time
                delay = round(_MILLISECONDS / fps)
                apng.save(path, "WEBP", save_all=True, lossless=True, method=0, duration=delay, loop=0)


class _ApngWriter:
    def __init__(
        self, file: IO[bytes], count: int, size: tuple[int, int], fps: float, note: Mapping[str, Any] | None
    ) -> None:
        self.file = file
        self.count = count
        self.size = size
        self.delay = round(_MILLISECONDS / fps)
        self.note = note
        self.header: bytes | None = None
        self.sequence_number = 0
        """The number of the next chunk that has one."""

    def add(self, picture: Picture) -> None:
        """Write a frame."""
        chunks = list(_chunks(_encode(picture, self.size)))
        header = b"".join(data for kind, data in chunks if kind in (b"IHDR", b"PLTE"))
        if self.header is None:
            self._write_header(chunks)
            self.header = header
        elif header != self.header:
            raise RenderError("the pictures of an animation must have the same palette, or all be RGB")
        height, width = self.size
        is_first = self.sequence_number == 0
        control = (self._next_number(), width, height, 0, 0, self.delay, _MILLISECONDS, 0, 0)
        self._write_chunk(b"fcTL", struct.pack(">IIIIIHHBB", *control))
        for kind, data in chunks:
            if kind == b"IDAT" and is_first:
                self._write_chunk(kind, data)
            elif kind == b"IDAT":
                self._write_chunk(b"fdAT", struct.pack(">I", self._next_number()) + data)

    def close(self) -> None:
        self._write_chunk(b"IEND", b"")

    def _write_header(self, chunks: list[tuple[bytes, bytes]]) -> None:
        self.file.write(_SIGNATURE)
        self._write_chunk(b"IHDR", next(data for kind, data in chunks if kind == b"IHDR"))
        self._write_chunk(b"acTL", struct.pack(">II", self.count, 0))
        for kind, data in chunks:
            if kind == b"PLTE":
                self._write_chunk(kind, data)
        if self.note is not None:
            self._write_chunk(b"iTXt", b"surgery\0\1\0\0\0" + zlib.compress(json.dumps(self.note).encode()))

    def _next_number(self) -> int:
        self.sequence_number += 1
        return self.sequence_number - 1

    def _write_chunk(self, kind: bytes, data: bytes) -> None:
        self.file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _encode(picture: Picture, size: tuple[int, int]) -> bytes:
    """Return a picture as PNG, on background of this height and width."""
    pixels = picture.pixels
    if pixels.shape[:2] != size:
        fill = 0 if picture.palette is None else BACKGROUND
        larger = np.full((*size, *pixels.shape[2:]), fill, np.uint8)
        larger[: pixels.shape[0], : pixels.shape[1]] = pixels
        pixels = larger
    image = Image.fromarray(pixels)
    if picture.palette is not None:
        image.putpalette(picture.palette.tobytes())
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    offset = len(_SIGNATURE)
    while offset < len(png):
        length, kind = struct.unpack(">I4s", png[offset : offset + 8])
        yield kind, png[offset + 8 : offset + 8 + length]
        offset += length + 12
