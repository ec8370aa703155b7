"""The sink: frames are kept on disk during the run and become animations when it ends."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

import surgery
from surgery.errors import OutputError
from surgery_video.formats import SUFFIXES, Format, check_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery import Activation, OutputFolder
    from surgery.stages import Write
    from surgery_video.frames import Codes, FrameFile, FrameSequence, Limits

Scale: TypeAlias = Literal["run", "image"]


@dataclass(frozen=True, slots=True)
class Video:
    """A sink that writes one animation for each operation, ``video/<NNN>-<path>.png``. Its frames are the images.

    With the scale ``run``, the limits of a channel are the widest of its limits over all images, so a color stands for
    the same value in every frame. The levels of each image are converted back to values and drawn again when the run
    ends, with an error of at most one level. Channels are tiled in a grid.

    With the scale ``image``, frames are the pictures of the run, each with limits of its own. Brightness then changes
    from frame to frame, unless the normalizer gives all images the same limits, such as ``fixed:low=-1,high=1``.

    Frames are kept on disk, compressed; memory holds one at a time. An APNG contains, as JSON in a text chunk
    ``surgery``, the names of its images, its limits and a description of the run. Animations of values of whole batches
    are in ``video/batch/``.
    """

    fps: float = 4.0
    """Frames per second, 0.1 to 100."""
    format: Format = "apng"
    """``apng``, which keeps the palette, or ``webp``; both are lossless."""
    at: str = "*"
    """A pattern of paths: of the extracted operations, those that match are animated."""
    scale: Scale = "run"
    """``run`` or ``image``."""
    channels: int | None = None
    """With the scale ``run``, draw only this number of channels, the first ones."""

    deferred: ClassVar[bool] = True
    places: ClassVar[tuple[str, ...]] = ("video",)

    def __post_init__(self) -> None:
        check_options(self.fps, self.format)
        if self.scale not in get_args(Scale):
            raise OutputError(f"scale is {' or '.join(get_args(Scale))}, not {self.scale!r}")
        if self.channels is not None and self.channels < 1:
            raise OutputError(f"channels is at least 1, not {self.channels}")

    @contextmanager
    def __call__(self, folder: OutputFolder, /) -> Iterator[Write]:
        from surgery_video.frames import FrameSequence, FrameSequences

        selection = surgery.path(self.at)
        sequences = FrameSequences(folder.path)

        def write(activation: Activation) -> None:
            if not selection.matches(activation.operation):
                return
            for number, (codes, limits, palette, has_levels) in enumerate(self._frames(activation)):
                create = partial(FrameSequence, _name(activation), _about(activation), palette, has_levels=has_levels)
                key = (activation.path, number, has_levels, len(limits[0]), codes.ndim)
                sequences.add(activation.image, create, key, codes, limits)

        folder.when_finished(sequences.finish)
        folder.when_dropped(sequences.drop)
        with closing(sequences.file):
            try:
                yield write
            finally:  # finished images are drawn also if the run fails
                names: set[str] = set()
                for sequence in sequences:
                    self._draw(sequence, _make_unique(sequence.name, names), sequences.file, folder)

    def _frames(self, activation: Activation) -> Iterator[tuple[Codes, Limits, Codes | None, bool]]:
        """Yield levels or the pixels of pictures, their limits and palette, and whether they are levels."""
        pictures = activation.pictures
        if self.scale == "run" and pictures and pictures[0].palette is not None:
            levels, first = activation.levels, slice(self.channels)
            codes = levels.codes[first]
            if activation.layout.name == "vector" and codes.shape[:2] == (1, 1):
                codes = codes[0, 0]  # drawing folds a vector, so it must get one
            yield codes, (levels.low[first], levels.high[first]), pictures[0].palette, True
            return
        for picture in pictures:
            yield picture.pixels, (picture.low, picture.high), picture.palette, False

    def _draw(self, sequence: FrameSequence, name: str, file: FrameFile, folder: OutputFolder) -> None:
        from surgery_video.animation import animation, frame_size

        note = {**sequence.about, "frames": sequence.image_names, **folder.about}
        if self.scale == "run" and sequence.limits is not None:
            note |= {"low": sequence.limits[0].tolist(), "high": sequence.limits[1].tolist()}
        options: Any = {"fps": self.fps, "format": self.format, "note": note}
        with (
            folder.file(name + SUFFIXES[self.format]) as path,
            animation(path, len(sequence.frames), frame_size(sequence.sizes(file)), **options) as add,
        ):
            for frame in sequence.frames:
                add(sequence.picture(frame, file))


def _about(activation: Activation) -> dict[str, object]:
    return {"operation": activation.path, "kind": activation.operation.kind}


def _name(activation: Activation) -> str:
    name = surgery.file_name(activation.path, activation.operation.index)
    return f"video/{'batch/' if activation.image is None else ''}{name}"


def _make_unique(name: str, taken: set[str]) -> str:
    """Return the name, with a number if it is taken, and add it to the taken names."""
    unique, number = name, 1
    while unique.lower() in taken:
        number += 1
        unique = f"{name}~{number}"
    taken.add(unique.lower())
    return unique
