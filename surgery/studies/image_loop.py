"""The images of a study, one after the other: those that fail are listed, and those that are finished stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.errors import ImageError
from surgery.output import Failure, Progress
from surgery.studies.study_inputs import check_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.studies.effects import Effect
    from surgery.studies.study_inputs import StudyImage, StudyInputs
    from surgery.studies.variants import Unit

    StudyFunction = Callable[[StudyImage, Callable[[Unit], None]], "StudiedImage"]
    """Takes an image, and what it calls after each unit."""


@dataclass(frozen=True, slots=True)
class StudiedImage:
    """What was found on one image."""

    effects: dict[Unit, Effect]
    write: Callable[[], None] = lambda: None
    """Writes the files of the image."""


class ImageLoop:
    """Studies the images one by one."""

    def __init__(self, inputs: StudyInputs, units: Sequence[Unit], progress: Callable[[Progress], None] | None) -> None:
        self._inputs = inputs
        self._units = units
        self._progress = progress
        self.effects: dict[str, dict[Unit, Effect]] = {}
        """The effects on each image that was finished, by its name."""
        self.failures: list[Failure] = []
        self.interrupted = False
        self.error: Exception | None = None
        """What ended the loop after some images were finished."""

    def run(self, study: StudyFunction) -> None:
        """Call `study` with each image. An error, or Ctrl-C, ends the loop, and is raised if no image is finished.

        Raises ImageError if no image can be read and run.
        """
        try:
            for image in self._inputs:
                try:
                    check_size(self._inputs.original, image)
                    found = study(image, self._counter(image))
                except ImageError as error:
                    self.failures.append(Failure(image.source or image.name, str(error), image.number))
                    continue
                self.effects[image.name] = found.effects
                found.write()
        except KeyboardInterrupt:
            if not self.effects:
                raise
            self.interrupted = True
        except Exception as error:
            if not self.effects:
                raise
            self.error = error
        self.failures = sorted([*self._inputs.failures, *self.failures], key=lambda failure: failure.number)
        if not self.effects:
            raise ImageError(self.failures[0].reason if self.failures else "there is no image")

    def by_unit(self, units: Sequence[Unit]) -> dict[Unit, dict[str, Effect]]:
        """Return the effects of each unit that was not left out on every image, by the image's name."""
        found = {
            unit: {name: effects[unit] for name, effects in self.effects.items() if unit in effects} for unit in units
        }
        return {unit: effects for unit, effects in found.items() if effects}

    def _counter(self, image: StudyImage) -> Callable[[Unit], None]:
        """Return what counts the units of an image, and tells the caller."""
        done = image.number * len(self._units)
        total = self._inputs.total * len(self._units)

        def count(unit: Unit) -> None:
            nonlocal done
            done += 1
            if self._progress is not None:
                self._progress(Progress(done, 0, total, f"{image.name}  {unit.label}"))

        return count
