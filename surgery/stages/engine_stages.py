"""Engines: what runs the tasks of a job, in this process, in others, or on other machines."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import ModuleType

Deliver: TypeAlias = Callable[[int, Any], None]
"""Takes the number of a worker and a message that it sent, or `Lost`."""


@dataclass(frozen=True, slots=True)
class Task:
    """Images for one worker: some whole batches, in order. Plain values, of a few kilobytes."""

    images: tuple[int, ...]
    """Their numbers among those of the run."""
    journal: str
    """The name under which the worker records the images that are finished."""
    shared: Mapping[str, Any]
    """What sinks have decided for all images of the run."""
    is_first: bool = False
    """Whether it is the first task of the run, which tells whether the files of all images will fit on the disk."""
    is_probe: bool = False
    """Whether nothing of it is kept: it tells whether its worker survives it."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker is gone, with the tasks that it had: its process was killed, or its machine went away."""

    reason: str
    """What happened to it, in words that follow "a worker": ``was killed (exit code -9)``."""


class JobWorker(Protocol):
    """A job as it is open in a worker."""

    def run(self, task: Task, send: Callable[[Any], None], is_stopped: Callable[[], bool], /) -> None:
        """Do a task. Raises nothing: an error is in what it sends.

        `send` is called on this thread with messages that can be pickled: one at the start, one after each batch, and
        as the last one the result. If `is_stopped` returns true before a batch, the rest of the task is left.
        """


class Job(Protocol):
    """The work of a run, which any number of workers can open."""

    @property
    def batches(self) -> int:
        """How many batches are left to do. More workers than these are of no use."""

    @property
    def device(self) -> str:
        """Where the model runs: ``cpu``, ``cuda:0``."""

    def open(self) -> AbstractContextManager[JobWorker]:
        """Open the job in a worker: in this process, in a fork of it, or after `pack` in any other.

        It takes no time and raises nothing: the first task loads the model, and sends what goes wrong.
        """

    def pack(self, pickler: ModuleType = pickle, /) -> Job:
        """Return the job as bytes, which can be pickled and opened in a process that shares only files with this one.

        `pickler` is a module with a class `Pickler`, such as `cloudpickle`, which takes what `pickle` does not. Raises
        ModelError, which says what can't be pickled.
        """


class Workers(Protocol):
    """Workers that have opened a job. They do what they are told: order, retries and progress are not theirs."""

    @property
    def count(self) -> int:
        """How many there are, with numbers from 0. It may grow."""

    def submit(self, worker: int, task: Task, /) -> None:
        """Hand a task to a worker, which does it with `JobWorker.run`. It has no other until that is done."""

    def receive(self, deliver: Deliver, seconds: float, /) -> None:
        """Call `deliver` for each message that came, in the order in which its worker sent it.

        Waits at most so many seconds for the first. For a worker that is gone, ``Lost(reason)`` is delivered once,
        after everything that it sent, when it can write no more. Its tasks are forgotten, and what is submitted to its
        number from then on goes to a new worker.
        """

    def stop(self) -> None:
        """Let the ``is_stopped`` of all tasks return true. Each task still has a result."""


class Engine(Protocol):
    """Runs the tasks of a job: yields workers, and ends them at once when its block ends, whatever they do.

    Raises ModelError when its block begins if there can be no workers here: no such cluster, no such start. Optional
    attribute:

    - ``in_process``: true for an engine whose one worker is this process. The whole run is one task, sinks need not
      keep images apart, and watchers see the activations.
    """

    def __call__(self, job: Job, /) -> AbstractContextManager[Workers]: ...
