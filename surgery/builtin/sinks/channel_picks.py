"""Which channels of each operation a sheet shows: chosen once for a run, or as an earlier run chose them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.errors import RenderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from surgery.types import Levels

TEXT_CHUNK = "picks"
"""Of the text in a sheet that holds them: JSON, channels by the path of the operation."""
METHODS = ("telling", "each", "first", "spread")

_NUMBERS = re.compile(r"\d+(/\d+)*")


def check_pick(pick: str) -> None:
    """Raise RenderError for what is no way to pick: no name, no numbers, and no sheet or folder of one."""
    if pick not in METHODS and not _NUMBERS.fullmatch(pick):
        read_picks(pick)


def ignores_images(pick: str) -> bool:
    """Whether what is picked does not depend on any image: the first channels, say."""
    return pick in ("each", "first", "spread") or _NUMBERS.fullmatch(pick) is not None


def read_picks(pick: str) -> dict[str, list[int]]:
    """The channels that an earlier run picked: of a sheet, or of the first sheet in a run's folder or by its manifest.

    Raises RenderError where there are none.
    """
    from PIL import Image

    path = Path(pick).expanduser()
    home = path.parent if path.name == "manifest.json" else path
    sheets = sorted(home.glob("*/sheet.png")) if home.is_dir() else [home]
    if not sheets or not sheets[0].is_file():
        known = ", ".join(METHODS)
        raise RenderError(
            f"pick is {known}, channels such as 0/3/7, or a sheet or the folder of a run that has one, not {pick!r}"
        )
    try:
        with Image.open(sheets[0]) as sheet:
            sheet.load()
            found = json.loads(sheet.text[TEXT_CHUNK])  # type: ignore[attr-defined]
        return {str(operation): [int(channel) for channel in channels] for operation, channels in found.items()}
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RenderError(
            f"{sheets[0]} does not say which channels were picked; it is no sheet of this kind"
        ) from error


class ChannelPicks:
    """The channels of each operation, for all images of a run."""

    def __init__(self, pick: str, count: int, picked: dict[str, list[int]]) -> None:
        self.pick = pick
        self.count = count
        self.picked = picked
        """Of the first image, by path; shared by all who draw sheets of the run."""
        self.earlier = {} if pick in METHODS or _NUMBERS.fullmatch(pick) else read_picks(pick)

    def channels_of(self, path: str, levels: Levels) -> list[int]:
        """The channels to show of an operation."""
        total = len(levels.codes)
        if self.pick == "each":
            return most_informative_channels(levels, self.count)
        if path in self.earlier and (fitting := [channel for channel in self.earlier[path] if channel < total]):
            return self.picked.setdefault(path, fitting)
        known = self.picked.get(path)
        if known is not None and max(known) < total:
            return known
        return self.picked.setdefault(path, self._pick(total, levels))

    def _pick(self, total: int, levels: Levels) -> list[int]:
        count = min(self.count, total)
        if self.pick == "first":
            return list(range(count))
        if self.pick == "spread":
            return [number * (total - 1) // max(1, count - 1) for number in range(count)]
        if _NUMBERS.fullmatch(self.pick):
            asked = [channel for channel in map(int, self.pick.split("/")) if channel < total]
            if asked:
                return asked
        return most_informative_channels(levels, self.count)

    def describe(self) -> str:
        """How they were chosen, in words."""
        if self.earlier:
            return f"channels as in {self.pick}"
        words = {
            "each": "channels chosen for contrast and variety",
            "first": "the first channels",
            "spread": "channels evenly spread",
            "telling": "channels chosen for contrast and variety in the first image",
        }
        return words.get(self.pick, f"channels {self.pick}")


def most_informative_channels(levels: Levels, count: int) -> list[int]:
    """The channels that tell most, at most `count`, in order of their numbers; constant ones only to fill up."""
    import numpy as np

    maps = _downsample(levels.codes)
    maps -= maps.mean(axis=(1, 2), keepdims=True)
    smooth = maps.copy()
    smooth[:, 1:] += maps[:, :-1]
    smooth[:, :, 1:] += smooth[:, :, :-1].copy()
    contrast = maps.std(axis=(1, 2)) + smooth.std(axis=(1, 2)) / 4
    flat = maps.reshape(len(maps), -1)
    unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    alike = np.zeros(len(maps))
    picked: list[int] = []
    while len(picked) < min(count, len(maps)):
        score = contrast * (1 - alike)
        score[picked] = -1
        best = int(score.argmax())
        picked.append(best)
        alike = np.maximum(alike, np.abs(unit @ unit[best]))
    return sorted(picked)


def _downsample(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """``(C, h, w)`` with h and w of 64 at most, by averaging; what is no value counts as the middle."""
    import numpy as np

    from surgery.types import LEVELS

    values = np.where(codes < LEVELS, codes, LEVELS // 2) if (codes >= LEVELS).any() else codes
    down, across = (max(1, -(-side // 64)) for side in codes.shape[1:])
    values = values[:, : codes.shape[1] // down * down, : codes.shape[2] // across * across]
    # Sums of lines and then of columns: exact, and a third of the time of a pooling of floats.
    lines = values[:, ::down].astype(np.uint32)
    for start in range(1, down):
        lines += values[:, start::down]
    sums = lines[:, :, ::across].astype(np.float32)
    for start in range(1, across):
        sums += lines[:, :, start::across]
    return sums / np.float32(down * across)
