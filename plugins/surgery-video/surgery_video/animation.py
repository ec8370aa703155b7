"""Animated pictures: indexed or RGB frames to APNG, one at a time, and from there to WebP by Pillow.

APNG is the animation of the PNG specification, third edition (W3C 2025). Frames are whole and keep the palette.
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
    """Write pictures as one animation that goes round for ever, `fps` of them a second.

    Those that are smaller than the largest have background on the right and below. Raises RenderError where there are
    none, or where some are indexed and some RGB.
    """
    if not pictures:
        raise RenderError("an animation has at least one picture")
    size = frame_size([picture.pixels.shape[:2] for picture in pictures])
    with animation(Path(path), len(pictures), size, fps=fps, format=format) as add:
        for picture in pictures:
            add(picture)


def frame_size(sizes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Height and width that hold all of these."""
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
    """Write an animation of `count` frames, given one by one. `note` goes into an APNG as JSON, under ``surgery``."""
    with path.open("w+b") if format == "apng" else TemporaryFile(dir=path.parent) as file:
        frames = _Apng(file, count, size, fps, note)
        yield frames.add
        frames.close()
        if format == "webp":
            file.seek(0)
            with Image.open(file) as whole:  # read frame by frame
                delay = round(_MILLISECONDS / fps)
                whole.save(path, "WEBP", save_all=True, lossless=True, method=0, duration=delay, loop=0)


class _Apng:
    def __init__(
        self, file: IO[bytes], count: int, size: tuple[int, int], fps: float, note: Mapping[str, Any] | None
    ) -> None:
        self.file = file
        self.count = count
        self.size = size
        self.delay = round(_MILLISECONDS / fps)
        self.note = note
        self.head: bytes | None = None
        self.number = 0
        """Of the next chunk that carries one."""

    def add(self, picture: Picture) -> None:
        """Write a frame."""
        chunks = list(_chunks(_encoded(picture, self.size)))
        head = b"".join(data for kind, data in chunks if kind in (b"IHDR", b"PLTE"))
        if self.head is None:
            self._begin(chunks)
            self.head = head
        elif head != self.head:
            raise RenderError("the pictures of an animation have one palette, or are all of them RGB")
        height, width = self.size
        self._put(
            b"fcTL", struct.pack(">IIIIIHHBB", self._next(), width, height, 0, 0, self.delay, _MILLISECONDS, 0, 0)
        )
        first = self.number == 1
        for kind, data in chunks:
            if kind == b"IDAT":
                self._put(b"IDAT", data) if first else self._put(b"fdAT", struct.pack(">I", self._next()) + data)

    def close(self) -> None:
        self._put(b"IEND", b"")

    def _begin(self, chunks: list[tuple[bytes, bytes]]) -> None:
        self.file.write(_SIGNATURE)
        self._put(b"IHDR", next(data for kind, data in chunks if kind == b"IHDR"))
        self._put(b"acTL", struct.pack(">II", self.count, 0))
        for kind, data in chunks:
            if kind == b"PLTE":
                self._put(kind, data)
        if self.note is not None:
            self._put(b"iTXt", b"surgery\0\1\0\0\0" + zlib.compress(json.dumps(self.note).encode()))

    def _next(self) -> int:
        self.number += 1
        return self.number - 1

    def _put(self, kind: bytes, data: bytes) -> None:
        self.file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _encoded(picture: Picture, size: tuple[int, int]) -> bytes:
    """A PNG of the picture on a background of this height and width."""
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
    place = len(_SIGNATURE)
    while place < len(png):
        length, kind = struct.unpack(">I4s", png[place : place + 8])
        yield kind, png[place + 8 : place + 8 + length]
        place += length + 12
