"""The worker's side: the actor that Ray starts on a machine of the cluster."""

from __future__ import annotations

import os
import platform
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from queue import Queue, SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import torch

from surgery.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from surgery.stages import Job, Task

PACKAGES = ("torch-surgery", "torch")
"""What has to be the same on all machines: other versions compute or write something else."""
PARENT_CHECK_INTERVAL = 0.2
"""Seconds between two checks that the process that began the run still exists."""
TASK_DONE = None
"""What follows the last message of a task."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker takes over from the process that began the run."""

    folder: str
    """The current folder, from which relative paths lead."""
    threads: int
    """Threads of torch."""
    versions: Mapping[str, str]
    """The versions of `PACKAGES`."""
    machine: str
    """The name of the machine on which the run began."""
    process: int
    """The process that began it."""

    @classmethod
    def of_this_process(cls, threads: int) -> Self:
        """Return those of workers of this process."""
        return cls(str(Path.cwd()), threads, find_versions(), platform.node(), os.getpid())


class RemoteWorker:
    """Opens a job on the machine that Ray chose, and does its tasks one after the other.

    Raises ModelError if the machine has other versions than the process that began the run.
    """

    def __init__(self, job: Job, surroundings: Surroundings) -> None:
        if (here := find_versions()) != surroundings.versions:
            raise ModelError(
                f"{platform.node()} has {_list_versions(here)}, and the run began with "
                f"{_list_versions(surroundings.versions)}; install the same versions on all machines"
            )
        with suppress(OSError):  # a folder that only the other machine has; nothing need be in it
            os.chdir(surroundings.folder)
        torch.set_num_threads(surroundings.threads)
        self._tasks: SimpleQueue[tuple[int, Task]] = SimpleQueue()
        self._messages: Queue[tuple[int, Any]] = Queue()
        self._is_stopped = Event()
        if platform.node() == surroundings.machine:
            Thread(target=_end_with, args=(surroundings.process,), name="surgery-parent", daemon=True).start()
        Thread(target=self._work, args=(job,), name="surgery-ray", daemon=True).start()

    def listen(self) -> Iterator[tuple[int, Any] | None]:
        """Yield None at once, then what the tasks send and `TASK_DONE`, with the number that each was submitted to."""
        yield None
        while True:
            yield self._messages.get()
            self._messages.task_done()

    def submit(self, number: int, task: Task) -> None:
        """Do a task after those that came before it."""
        self._tasks.put((number, task))

    def stop(self) -> None:
        """Leave the rest of all tasks."""
        self._is_stopped.set()

    def _work(self, job: Job) -> None:
        """Do the tasks as they come. An error outside of the tasks ends the process, and stands in its log."""
        try:
            with job.open() as worker:
                while True:
                    number, task = self._tasks.get()
                    worker.run(task, partial(self._send, number), self._is_stopped.is_set)
                    self._send(number, TASK_DONE)
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
            os._exit(1)

    def _send(self, number: int, message: Any) -> None:
        """Send a message. Return when Ray has it, so that it isn't lost if the next image ends this process."""
        self._messages.put((number, message))
        self._messages.join()


def _end_with(process: int) -> None:
    """End this process when another one of this machine has ended, whose run would be left unfinished.

    Ray does that too, seconds later. Where the other process can't be seen, as from a container, it is left to Ray.
    """
    is_there = False
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            if is_there:
                os._exit(1)
            return
        except OSError:
            return
        is_there = True
        time.sleep(PARENT_CHECK_INTERVAL)


def find_versions() -> dict[str, str]:
    """Return the versions of `PACKAGES` in this process."""
    return {package: version(package) for package in PACKAGES}


def _list_versions(versions: Mapping[str, str]) -> str:
    return " and ".join(f"{package} {number}" for package, number in versions.items())
