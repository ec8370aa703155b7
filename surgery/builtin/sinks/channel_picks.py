"""Which channels of each operation a sheet shows: picked once for a run, or taken from an earlier run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import RenderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from surgery.drawing import ChannelCodes

TEXT_CHUNK = "picks"
"""The PNG text of a sheet that holds the picks: JSON, the channels by the path of the operation."""
METHODS = ("telling", "each", "first", "spread")

_NUMBERS = re.compile(r"\d+(/\d+)*")
_MAX_SIDE = 64
"""Side of the reduced maps on which channels are compared."""


def check_pick(pick: str) -> None:
    """Raise RenderError unless `pick` is a method, channel numbers, or a sheet or a folder with one."""
    if pick not in METHODS and not _NUMBERS.fullmatch(pick):
        read_picks(pick)


def ignores_images(pick: str) -> bool:
    """Return whether the picked channels do not depend on the first image of a run."""
    return pick in ("each", "first", "spread") or _NUMBERS.fullmatch(pick) is not None


def read_picks(pick: str) -> dict[str, list[int]]:
    """Return the channels that an earlier run picked, by path, from a sheet, the folder of a run or its manifest.

    Raises RenderError if there is no sheet, or if it does not contain picks.
    """
    from PIL import Image

    path = Path(pick).expanduser()
    folder = path.parent if path.name == "manifest.json" else path
    sheets = sorted(folder.glob("*/sheet.png")) if folder.is_dir() else [folder]
    if not sheets or not sheets[0].is_file():
        known = ", ".join(METHODS)
        raise RenderError(
            f"pick is {known}, channels such as 0/3/7, or a sheet or the folder of a run that has one, not {pick!r}"
        )
    try:
        with Image.open(sheets[0]) as sheet:
            sheet.load()
            picks = json.loads(sheet.text[TEXT_CHUNK])  # type: ignore[attr-defined]
        return {str(operation): [int(channel) for channel in channels] for operation, channels in picks.items()}
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RenderError(
            f"{sheets[0]} does not say which channels were picked; name a sheet that a run wrote"
        ) from error


class ChannelPicks:
    """The channels that the sheets of a run show of each operation."""

    def __init__(self, pick: str, count: int, picked: dict[str, list[int]]) -> None:
        self.pick = pick
        self.count = count
        """The most channels of an operation."""
        self.picked = picked
        """The channels that were picked on the first image, by path; shared by all sheets of the run."""
        self.earlier = {} if pick in METHODS or _NUMBERS.fullmatch(pick) else read_picks(pick)

    def channels_of(self, path: str, codes: ChannelCodes) -> list[int]:
        """Return the channels to show of an operation, and remember them for the images that follow.

        An image of another size may have too few channels for them, and shows others.
        """
        total = codes.count
        if self.pick == "each":
            return most_informative_channels(codes.read(None), self.count)
        known = self.picked.get(path)
        if known is not None and max(known) < total:
            return known
        own = self._pick(path, codes)
        self.picked.setdefault(path, own)
        return own

    def _pick(self, path: str, codes: ChannelCodes) -> list[int]:
        total = codes.count
        if fitting := [channel for channel in self.earlier.get(path, ()) if channel < total]:
            return fitting
        count = min(self.count, total)
        if self.pick == "first":
            return list(range(count))
        if self.pick == "spread":
            return [number * (total - 1) // max(1, count - 1) for number in range(count)]
        if _NUMBERS.fullmatch(self.pick):
            existing = [channel for channel in map(int, self.pick.split("/")) if channel < total]
            if existing:
                return existing
        return most_informative_channels(codes.read(None), self.count)

    def describe(self) -> str:
        """Return how the channels were picked, in words."""
        if self.earlier:
            return f"channels as in {self.pick}"
        words = {
            "each": "channels chosen for contrast and variety",
            "first": "the first channels",
            "spread": "channels evenly spread",
            "telling": "channels chosen for contrast and variety in the first image",
        }
        return words.get(self.pick, f"channels {self.pick}")


def most_informative_channels(codes: NDArray[np.uint8], count: int) -> list[int]:
    """Return at most `count` channels of codes ``(C, H, W)`` that have high contrast and differ from each other.

    They are in order of their numbers. Constant channels are returned only if there are not enough others.
    """
    import numpy as np

    maps = _downsample(codes)
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    smooth = maps.copy()
    smooth[:, 1:] += maps[:, :-1]
    smooth[:, :, 1:] += smooth[:, :, :-1].copy()
    contrast = maps.std(axis=(1, 2)) + smooth.std(axis=(1, 2)) / 4
    flat = maps.reshape(len(maps), -1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    similarity = np.zeros(len(maps))  # the greatest absolute correlation with a chosen channel
    chosen: list[int] = []
    while len(chosen) < min(count, len(maps)):
        score = contrast * (1 - similarity)
        score[chosen] = -1
        best = int(score.argmax())
        chosen.append(best)
        similarity = np.maximum(similarity, np.abs(unit @ unit[best]))
    return sorted(chosen)


def _downsample(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return maps ``(C, h, w)`` with h and w of at most 64, by averaging. Special codes count as the middle code."""
    import numpy as np

    from surgery.types import LEVELS

    values = np.where(codes < LEVELS, codes, LEVELS // 2) if (codes >= LEVELS).any() else codes
    down, across = (max(1, -(-side // _MAX_SIDE)) for side in codes.shape[1:])
    values = values[:, : codes.shape[1] // down * down, : codes.shape[2] // across * across]
    # Sums of rows and then of columns: exact, and a third of the time of a pooling of floats.
    rows = values[:, ::down].astype(np.uint32)
    for start in range(1, down):
        rows += values[:, start::down]
    sums = rows[:, :, ::across].astype(np.float32)
    for start in range(1, across):
        sums += rows[:, :, start::across]
    return sums / np.float32(down * across)
