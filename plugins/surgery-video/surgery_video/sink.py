"""The sink: frames wait on the disk, and become animations when the run ends."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import surgery
from surgery.errors import OutputError
from surgery_video.formats import SUFFIXES, Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery import Activation, OutputFolder
    from surgery.stages import Write
    from surgery_video.reels import Codes, Limits, Reel, Spool

Scale: TypeAlias = Literal["run", "image"]


@dataclass(frozen=True, slots=True)
class Video:
    """`video/<NNN>-<path>.png`: an animation of each operation, whose frames are the images of the run, in order.

    With a scale of the ``run``, a channel's limits are the widest of its limits over all images, so that a color is one
    value from the first frame to the last: the levels of each image, which its own limits give, are read back to values
    and drawn anew when the run ends. A value is right to one level of the run's scale. Channels lie in a grid.

    With a scale of the ``image``, frames are the run's pictures as they are, by its tiler and each with limits of its
    own; brightness jumps from frame to frame, unless the normalizer is one like ``fixed:low=-1,high=1``.

    Frames wait on the disk as compressed bytes: memory holds one at a time. An APNG has the names of its images, its
    limits and what the run is, as JSON in a text chunk `surgery`. What belongs to a whole batch is in `video/batch/`.
    """

    fps: float = 4.0
    """Images a second."""
    format: Format = "apng"
    """apng, which keeps the palette, or webp, lossless too."""
    at: str = "*"
    """Of the operations that are extracted, those whose path matches this pattern."""
    scale: Scale = "run"
    """Whose limits: run or image."""
    channels: int | None = None
    """The first so many channels alone, with a scale of the run."""

    deferred: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ("video",)

    def __post_init__(self) -> None:
        if not 0.1 <= self.fps <= 100:
            raise OutputError(f"fps is 0.1 to 100, not {self.fps:g}")
        for name, known in (("format", get_args(Format)), ("scale", get_args(Scale))):
            if getattr(self, name) not in known:
                raise OutputError(f"{name} is {' or '.join(known)}, not {getattr(self, name)!r}")
        if self.channels is not None and self.channels < 1:
            raise OutputError(f"channels is at least 1, not {self.channels}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery_video.reels import Reel, Reels

        chosen = surgery.path(self.at)
        reels = Reels(folder.path)

        def write(activation: Activation) -> None:
            if not chosen.matches(activation.operation):
                return
            for number, (codes, limits, palette, anew) in enumerate(self._frames(activation)):
                begin = partial(Reel, _name(activation), _about(activation), palette, anew=anew)
                key = (activation.path, number, anew, len(limits[0]), codes.ndim)
                reels.add(activation.image, begin, key, codes, limits)

        folder.when_finished(reels.finish)
        folder.when_dropped(reels.drop)
        with closing(reels.spool):
            try:
                yield write
            finally:  # what was finished is drawn however the run ends
                names: set[str] = set()
                for reel in reels:
                    self._draw(reel, _free(reel.name, names), reels.spool, folder)

    def _frames(self, activation: Activation) -> Iterator[tuple[Codes, Limits, Codes | None, bool]]:
        """What is kept of an activation, its levels or the pixels of its pictures, with limits and palette."""
        pictures = activation.pictures
        if self.scale == "run" and pictures and pictures[0].palette is not None:
            levels, shown = activation.levels, slice(self.channels)
            codes = levels.codes[shown]
            if activation.layout.name == "vector" and codes.shape[:2] == (1, 1):
                codes = codes[0, 0]  # a vector, to be folded as vectors are
            yield codes, (levels.low[shown], levels.high[shown]), pictures[0].palette, True
            return
        for picture in pictures:
            yield picture.pixels, (picture.low, picture.high), picture.palette, False

    def _draw(self, reel: Reel, name: str, spool: Spool, folder: OutputFolder) -> None:
        from surgery_video.animation import animation, frame_size

        note = {**reel.about, "frames": reel.names, **folder.about}
        if self.scale == "run" and reel.limits is not None:
            note |= {"low": reel.limits[0].tolist(), "high": reel.limits[1].tolist()}
        how: Any = {"fps": self.fps, "format": self.format, "note": note}
        with (
            folder.file(name + SUFFIXES[self.format]) as path,
            animation(path, len(reel.frames), frame_size(reel.sizes(spool)), **how) as add,
        ):
            for frame in reel.frames:
                add(reel.picture(frame, spool))


def _about(activation: Activation) -> dict[str, object]:
    return {"operation": activation.path, "kind": activation.operation.kind}


def _name(activation: Activation) -> str:
    name = surgery.file_name(activation.path, activation.operation.index)
    return f"video/{'batch/' if activation.image is None else ''}{name}"


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if it is taken, which it is then."""
    free, number = name, 1
    while free.lower() in taken:
        number += 1
        free = f"{name}~{number}"
    taken.add(free.lower())
    return free
