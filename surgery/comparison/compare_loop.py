"""The images of a comparison, one after the other: those that fail are listed, and those that are finished stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from surgery.errors import ImageError
from surgery.output import Failure, Progress
from surgery.studies import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from surgery.comparison.compare_setup import CompareSetup
    from surgery.comparison.pair_table import PairTable
    from surgery.comparison.side_by_side import SideBySide, StepValues
    from surgery.studies import StudyImage


class ImageWriter(Protocol):
    """What becomes of the values of an image beside their measures."""

    def start(self) -> None:
        """Begin with the next image."""
        ...

    def add(self, step: StepValues) -> None:
        """Take the values of an operation while they are there."""
        ...

    def finish(self, image: StudyImage, outputs: Sequence[Any]) -> None:
        """Write the files of an image."""
        ...


class CompareLoop:
    """Runs the images one by one through all runs."""

    def __init__(self, setup: CompareSetup, beside: SideBySide, table: PairTable) -> None:
        self._setup = setup
        self._beside = beside
        self._table = table
        self.done = 0
        """The number of images that were finished."""
        self.failures: list[Failure] = []
        self.interrupted = False
        self.error: Exception | None = None
        """What ended the loop after some images were finished."""

    def run(
        self,
        writer: ImageWriter | None,
        on_step: Callable[[StudyImage, StepValues], None] | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        """Run all images. An error, or Ctrl-C, ends the loop, and is raised if no image is finished.

        Raises ImageError if no image can be read and run.
        """
        total = self._setup.inputs.total
        try:
            for number, parts in enumerate(self._setup.images()):
                try:
                    self._run_image(parts, writer, on_step)
                    self.done += 1
                except ImageError as error:
                    self.failures.append(Failure(parts[0].source or parts[0].name, str(error), parts[0].number))
                if progress is not None:
                    progress(Progress(number + 1 - len(self.failures), len(self.failures), total, parts[0].name))
        except KeyboardInterrupt:
            if not self.done:
                raise
            self.interrupted = True
        except Exception as error:
            if not self.done:
                raise
            self.error = error
        self.failures = sorted([*self._setup.failures(), *self.failures], key=lambda failure: failure.number)
        if not self.done:
            raise ImageError(self.failures[0].reason if self.failures else "there is no image")

    def _run_image(
        self,
        parts: Sequence[StudyImage],
        writer: ImageWriter | None,
        on_step: Callable[[StudyImage, StepValues], None] | None,
    ) -> None:
        main = parts[0]
        values = [run.inputs(part.values) for run, part in zip(self._setup.runs, parts, strict=True)]
        self._table.drop_image()
        check_size(self._setup.runs[0].original, main)
        if writer is not None:
            writer.start()
        for step in self._beside.steps(values, to_the_end=writer is not None):
            self._table.add(step)
            if writer is not None:
                writer.add(step)
            if on_step is not None:
                on_step(main, step)
        if writer is not None:
            writer.finish(main, self._beside.outputs)
        self._table.finish_image()
