"""The engine `local`: the calling process runs the model, and threads beside it read and write."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Deliver, Job, JobWorker, Task


@dataclass(frozen=True, slots=True)
class Local:
    """Runs the model in this process, with threads that read images and write files beside it."""

    in_process: ClassVar[bool] = True

    @contextmanager
    def __call__(self, job: Job, /) -> Iterator[LocalWorkers]:
        with job.open() as worker:
            yield LocalWorkers(worker)


class LocalWorkers:
    """This process as the one worker of a job."""

    count = 1

    def __init__(self, worker: JobWorker) -> None:
        self._worker = worker
        self._tasks: deque[Task] = deque()
        self._is_stopped = False

    def submit(self, worker: int, task: Task, /) -> None:  # noqa: ARG002
        """Keep a task for `receive`."""
        self._tasks.append(task)

    def receive(self, deliver: Deliver, seconds: float, /) -> None:  # noqa: ARG002
        """Do the tasks, and deliver what they send at once."""
        while self._tasks:
            self._worker.run(self._tasks.popleft(), partial(deliver, 0), lambda: self._is_stopped)

    def stop(self) -> None:
        """Leave the rest of the tasks."""
        self._is_stopped = True
