"""The frames of one operation, which wait on the disk until the limits of them all are known."""

from __future__ import annotations

import tempfile
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

import surgery
from surgery.errors import OutputError
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
    """Where the codes or pixels of one frame wait, with their limits behind them."""

    place: int
    length: int
    shape: tuple[int, ...]
    limits: int
    """How many pairs."""


class Spool:
    """A file without a name in a folder, gone when it is closed and when the process is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[bytes] | None = None

    def put(self, codes: Codes, limits: Limits) -> Frame:
        """Keep a frame. Raises OutputError where that fails."""
        data = zlib.compress(np.ascontiguousarray(codes).data, 1)
        try:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 - open as long as the run
            place = self._file.seek(0, 2)
            self._file.write(data + b"".join(np.asarray(limit, np.float64).tobytes() for limit in limits))
        except OSError as error:
            raise OutputError(f"can't write to {self.folder}: {(error.strerror or str(error)).lower()}") from error
        return Frame(place, len(data), codes.shape, len(limits[0]))

    def get(self, frame: Frame) -> tuple[Codes, Limits]:
        """A frame that was kept."""
        assert self._file is not None  # noqa: S101 - there is a frame, and so there is a file
        self._file.seek(frame.place)
        codes = np.frombuffer(zlib.decompress(self._file.read(frame.length)), np.uint8).reshape(frame.shape)
        low, high = np.frombuffer(self._file.read(16 * frame.limits)).reshape(2, -1)
        return codes, (low, high)

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()


class Reels:
    """Those of all operations, in order, and the frames of images that are not finished yet."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder)
        self._reels: dict[Hashable, Reel] = {}
        self._waiting: defaultdict[str | None, list[tuple[Reel, Frame, Limits]]] = defaultdict(list)
        self._seen: defaultdict[str | None, Counter[Hashable]] = defaultdict(Counter)
        self._batch: list[str] = []

    def add(self, image: str | None, begin: Callable[[], Reel], key: Hashable, codes: Codes, limits: Limits) -> None:
        """A frame of the reel with this key, which is begun if there is none; an image's second is of another reel."""
        self._seen[image][key] += 1
        key = (key, image is None, self._seen[image][key])
        if key not in self._reels:
            self._reels[key] = begin()
        self._waiting[image].append((self._reels[key], self.spool.put(codes, limits), limits))

    def finish(self, image: str | None) -> None:
        """The image's frames count; None for those of the batch, under the names of its images."""
        for reel, frame, limits in self._waiting.pop(image, []):
            reel.add(", ".join(self._batch) if image is None else image, frame, limits)
        self._seen.pop(image, None)
        if image is None:
            self._batch.clear()
        else:
            self._batch.append(image)

    def drop(self, image: str | None) -> None:
        """The image's frames do not count."""
        self._waiting.pop(image, None)
        self._seen.pop(image, None)
        self._batch.clear()

    def __iter__(self) -> Iterator[Reel]:
        return (reel for reel in self._reels.values() if reel.frames)


class Reel:
    """Frames of one operation in order, and the widest of their limits."""

    def __init__(self, name: str, about: dict[str, object], palette: NDArray[np.uint8] | None, *, anew: bool) -> None:
        self.name = name
        """Of its file, without the suffix."""
        self.about = about
        self.palette = palette
        self.anew = anew
        """Whether frames are levels, ``(C, H, W)`` or those of a vector ``(C,)``, and not pixels."""
        self.names: list[str] = []
        self.frames: list[Frame] = []
        self.limits: Limits | None = None

    def add(self, name: str, frame: Frame, limits: Limits) -> None:
        """The next frame."""
        self.names.append(name)
        self.frames.append(frame)
        before = self.limits or limits
        self.limits = np.minimum(before[0], limits[0]), np.maximum(before[1], limits[1])

    def sizes(self, spool: Spool) -> list[tuple[int, int]]:
        """Height and width of the pictures of each shape that there is."""
        some = {frame.shape: frame for frame in self.frames}
        return [self.picture(frame, spool).pixels.shape[:2] for frame in some.values()]

    def picture(self, frame: Frame, spool: Spool) -> Picture:
        """A frame in the limits of all."""
        assert self.limits is not None  # noqa: S101 - there is a frame
        codes, own = spool.get(frame)
        if not self.anew:
            return Picture(codes, self.palette, *own)
        low, high = (torch.from_numpy(limit).reshape(1, -1, 1, 1) for limit in self.limits)
        (picture,) = surgery.draw(values_of(codes, own), normalizer=lambda _: (low, high))
        return Picture(picture.pixels, self.palette, *self.limits)


def values_of(codes: Codes, limits: Limits) -> Tensor:
    """``(1, C, H, W)`` float64, or ``(1, C)`` of a vector's codes, right to half a level; NaN and infinities too."""
    low, high = (limit.reshape(-1, *[1] * (codes.ndim - 1)) for limit in limits)
    # Divided first: the difference of two finite limits may overflow.
    values = low + codes / (LEVELS - 1) * high - codes / (LEVELS - 1) * low
    for code, value in ((NAN, np.nan), (MINUS_INF, -np.inf), (PLUS_INF, np.inf)):
        values[codes == code] = value
    return torch.from_numpy(values)[None]
