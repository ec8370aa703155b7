"""A trial of a run: the first of its images, in a folder that is thrown away, to tell what all of them will need."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ADVICE = "--sample 2 (sample=2) runs two images to estimate what all of them need"


@dataclass(slots=True)
class Trial:
    """What a trial is asked to do, and what it measured beside its files."""

    images: int
    """How many images it runs."""
    runs_model: bool
    """Whether the model runs. Otherwise it is traced without an example, and noise takes the place of its values."""
    total: int = 0
    """The images of the whole run."""
    started: float = 0.0
    ended: float = 0.0
    """Clock times around reading, running and writing the images, without loading and tracing."""
    first_batch: tuple[float, int] | None = None
    """The clock time when the model was done with the first batch, and the images in it."""
    live_bytes: int = 0
    """The most bytes of tensors that the forward pass holds at once, if the model does not run."""

    def note_progress(self, done: int) -> None:
        """Remember when the first batch was done."""
        if self.first_batch is None:
            self.first_batch = time.perf_counter(), done

    def has_later_batches(self, done: int) -> bool:
        """Return whether there were further batches, of `done` images in all."""
        return self.first_batch is not None and done > self.first_batch[1]

    def seconds_per_image(self, done: int) -> float:
        """Return the wall time an image, of the batches after the first if there are any."""
        if self.first_batch is None or not self.has_later_batches(done):
            return (self.ended - self.started) / done
        since, first = self.first_batch
        return (self.ended - since) / (done - first)


_CURRENT: ContextVar[Trial | None] = ContextVar("surgery_trial", default=None)


def current_trial() -> Trial | None:
    """Return the trial that this run is; None for an ordinary run."""
    return _CURRENT.get()


@contextmanager
def trying(trial: Trial) -> Iterator[Trial]:
    """Within the block, a run of this thread is a trial."""
    token = _CURRENT.set(trial)
    try:
        yield trial
    finally:
        _CURRENT.reset(token)


@contextmanager
def choosing_images(numbers: list[int]) -> Iterator[list[int]]:
    """Yield the images that a run is to do: in a trial the first, for which it takes the time of the block."""
    trial = current_trial()
    if trial is None:
        yield numbers
        return
    trial.total = len(numbers)
    trial.started = time.perf_counter()
    yield numbers[: trial.images]
    trial.ended = time.perf_counter()
