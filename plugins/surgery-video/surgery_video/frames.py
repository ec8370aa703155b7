"""Frames of a run's operations, kept in a file on disk until the limits over all images are known."""

from __future__ import annotations

import tempfile
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

import surgery
from surgery.errors import OutputError, describe_os_error
from surgery.types import LEVELS, MINUS_INF, NAN, PLUS_INF, Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    Codes = NDArray[np.uint8]
    Limits = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a frame is in a `FrameFile`: its compressed codes or pixels, followed by its limits."""

    offset: int
    length: int
    """Of the compressed data, in bytes."""
    shape: tuple[int, ...]
    limits: int
    """The number of pairs of limits."""


class FrameFile:
    """A file for frames that has no name. It is gone once it is closed or the process is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[bytes] | None = None

    def write(self, codes: Codes, limits: Limits) -> Frame:
        """Write a frame. Raises OutputError if the folder can't be written to."""
        data = zlib.compress(np.ascontiguousarray(codes).data, 1)
        try:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - stays open during the run
            offset = self._file.seek(0, 2)
            self._file.write(data + b"".join(np.asarray(limit, np.float64).tobytes() for limit in limits))
        except OSError as error:
            raise OutputError(f"can't write to {self.folder}: {describe_os_error(error)}") from error
        return Frame(offset, len(data), codes.shape, len(limits[0]))

    def read(self, frame: Frame) -> tuple[Codes, Limits]:
        """Return the codes or pixels of a frame, and its limits."""
        assert self._file is not None  # noqa: S101 - write opened it
        self._file.seek(frame.offset)
        codes = np.frombuffer(zlib.decompress(self._file.read(frame.length)), np.uint8).reshape(frame.shape)
        low, high = np.frombuffer(self._file.read(16 * frame.limits)).reshape(2, -1)
        return codes, (low, high)

    def close(self) -> None:
        """Close the file, which deletes it."""
        if self._file is not None:
            self._file.close()


class FrameSequence:
    """The frames of one operation in order, and the widest of their limits."""

    def __init__(
        self, name: str, about: dict[str, object], palette: NDArray[np.uint8] | None, *, has_levels: bool
    ) -> None:
        self.name = name
        """The name of the animation's file, without the suffix."""
        self.about = about
        self.palette = palette
        self.has_levels = has_levels
        """Whether frames are levels, ``(C, H, W)`` or ``(C,)`` of a vector, which are drawn again; else pixels."""
        self.image_names: list[str] = []
        self.frames: list[Frame] = []
        self.limits: Limits | None = None

    def add(self, image_name: str, frame: Frame, limits: Limits) -> None:
        """Add the next frame."""
        self.image_names.append(image_name)
        self.frames.append(frame)
        before = self.limits or limits
        self.limits = np.minimum(before[0], limits[0]), np.maximum(before[1], limits[1])

    def sizes(self, file: FrameFile) -> list[tuple[int, int]]:
        """Return the height and width of the pictures, once for each shape of frames."""
        one_of_each_shape = {frame.shape: frame for frame in self.frames}
        return [self.picture(frame, file).pixels.shape[:2] for frame in one_of_each_shape.values()]

    def picture(self, frame: Frame, file: FrameFile) -> Picture:
        """Return the picture of a frame; levels are drawn with the limits of the whole sequence."""
        assert self.limits is not None  # noqa: S101 - there is a frame, so there are limits
        codes, limits = file.read(frame)
        if not self.has_levels:
            return Picture(codes, self.palette, *limits)
        low, high = (torch.from_numpy(limit).reshape(1, -1, 1, 1) for limit in self.limits)
        (picture,) = surgery.draw(dequantize(codes, limits), normalizer=lambda _: (low, high))
        return Picture(picture.pixels, self.palette, *self.limits)


class FrameSequences:
    """The frame sequences of all operations, in the order in which they were first computed.

    Frames of an image are added to their sequences when the image is finished.
    """

    def __init__(self, folder: Path) -> None:
        self.file = FrameFile(folder)
        self._sequences: dict[Hashable, FrameSequence] = {}
        self._pending: defaultdict[str | None, list[tuple[FrameSequence, Frame, Limits]]] = defaultdict(list)
        self._counts: defaultdict[str | None, Counter[Hashable]] = defaultdict(Counter)
        self._batch: list[str] = []

    def add(
        self, image: str | None, create: Callable[[], FrameSequence], key: Hashable, codes: Codes, limits: Limits
    ) -> None:
        """Write a frame of an image, for the sequence with this key; `create` makes the sequence if there is none.

        The second frame of one image with the same key goes to a second sequence.
        """
        self._counts[image][key] += 1
        key = (key, image is None, self._counts[image][key])
        if key not in self._sequences:
            self._sequences[key] = create()
        self._pending[image].append((self._sequences[key], self.file.write(codes, limits), limits))

    def finish(self, image: str | None) -> None:
        """Add the frames of an image to their sequences; None for those of a batch, named after its images."""
        for sequence, frame, limits in self._pending.pop(image, []):
            sequence.add(", ".join(self._batch) if image is None else image, frame, limits)
        self._counts.pop(image, None)
        if image is None:
            self._batch.clear()
        else:
            self._batch.append(image)

    def drop(self, image: str | None) -> None:
        """Forget the frames of an image."""
        self._pending.pop(image, None)
        self._counts.pop(image, None)
        self._batch.clear()

    def __iter__(self) -> Iterator[FrameSequence]:
        return (sequence for sequence in self._sequences.values() if sequence.frames)


def dequantize(codes: Codes, limits: Limits) -> Tensor:
    """Return the values of codes as ``(1, C, H, W)`` float64, or ``(1, C)`` of a vector.

    They are exact to half a level; NaN and infinities are kept.
    """
    low, high = (limit.reshape(-1, *[1] * (codes.ndim - 1)) for limit in limits)
    # The limits are scaled before they are subtracted: their difference may overflow.
    values = low + codes / (LEVELS - 1) * high - codes / (LEVELS - 1) * low
    for code, value in ((NAN, np.nan), (MINUS_INF, -np.inf), (PLUS_INF, np.inf)):
        values[codes == code] = value
    return torch.from_numpy(values)[None]
