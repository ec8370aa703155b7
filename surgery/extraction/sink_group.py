"""Open sinks that are called on one thread, with the folder that they write to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from surgery.errors import SurgeryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from surgery.output import OutputFolder, WrittenFile
    from surgery.stages import Write
    from surgery.types import Activation


class SinkGroup:
    """The sinks that are called on one thread. `folder` is that thread's view of the output folder."""

    def __init__(self, folder: OutputFolder) -> None:
        self.folder = folder
        self.writes: list[Write] = []

    def write(self, activation: Activation) -> list[WrittenFile]:
        """Call each sink with an activation. Return the files that are finished since the last call."""
        for write in self.writes:
            write(activation)
        return self.folder.take_written()

    def finish_images(self, images: Iterable[str]) -> list[WrittenFile]:
        """Tell the sinks that they have all activations of a batch. Return the files that are finished since."""
        for image in (*images, None):
            self.folder.finish(image)
        return self.folder.take_written()


@contextmanager
def locate_errors(activation: Activation) -> Iterator[None]:
    """Within the block, add the activation and its image to the message of an error, or to its notes.

    A SurgeryError is shown as one line, so the place goes into that line.
    """
    try:
        yield
    except Exception as error:
        place = f"at {activation.path}" + (f" of {activation.image}" if activation.image is not None else "")
        if isinstance(error, SurgeryError):
            error.args = (f"{place}: {error}",)
        else:
            error.add_note(place)
        raise
