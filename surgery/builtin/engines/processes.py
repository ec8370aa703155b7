"""The engine `processes`: several processes of this machine share the batches."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Literal

from surgery.builtin.engines.process_worker import END, STOP, serve
from surgery.errors import ModelError
from surgery.stages import Lost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Deliver, Job, Task

MAX_PER_CORE = 4
GRACE = 1.0
"""Seconds that workers have to end by themselves."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Runs the model in several processes of this machine, with one thread of torch each."""

    workers: int = 0
    """How many processes; 0 for one on each core. No more than four a core, and one a batch, are started."""
    start: Literal["auto", "fork", "spawn"] = "auto"
    """How they are started: as forks of this process, which have all that it has, or anew, where only what can be
    pickled comes along, as a model on a GPU needs it. By default as forks where that is possible."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ModelError(f"there are 0 workers or more, not {self.workers}; 0 is one for each core")
        if self.start not in ("auto", "fork", "spawn"):
            raise ModelError(f"processes start by fork, spawn or auto, not {self.start!r}")

    @contextmanager
    def __call__(self, job: Job, /) -> Iterator[ProcessWorkers]:
        cores = _count_cores()
        count = max(1, min(self.workers or cores, MAX_PER_CORE * cores, job.batches))
        start = self._choose_start(job.device)
        workers = ProcessWorkers(job if start == "fork" else job.pack(), start)
        try:
            workers.add(count)
            yield workers
        finally:
            workers.end()

    def _choose_start(self, device: str) -> str:
        can_fork = "fork" in multiprocessing.get_all_start_methods()
        is_on_cpu = device.startswith("cpu")
        if self.start == "fork" and not can_fork:
            raise ModelError("this system can't fork a process; leave out start=fork")
        if self.start == "fork" and not is_on_cpu:
            raise ModelError(f"a fork of a process can't use {device}; leave out start=fork, or use --device cpu")
        return "fork" if can_fork and is_on_cpu and self.start != "spawn" else "spawn"


class _Worker:
    """A worker process, seen from its parent."""

    def __init__(self, job: Job, start: str, siblings: list[Connection]) -> None:
        context: Any = multiprocessing.get_context(start)
        self.connection, other = context.Pipe()
        # A fork has the ends of its siblings too; they would keep those from noticing that this process has ended.
        inherited = [self.connection, *siblings] if start == "fork" else []
        self.process = context.Process(target=serve, args=(job, other, inherited, os.getpid()))
        with warnings.catch_warnings():
            # Python 3.12 warns that a fork loses threads. The lost threads are those of torch, which workers don't use.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        other.close()

    def send(self, message: object) -> None:
        """Send a task, or a wish. If the process has ended, nothing happens."""
        with suppress(OSError):
            self.connection.send(message)

    def end(self, deadline: float = 0) -> None:
        """End the process. If it does not end by itself before `deadline`, it is killed."""
        self.process.join(max(0, deadline - time.monotonic()))
        self.process.kill()
        self.process.join()
        self.connection.close()


class ProcessWorkers:
    """The worker processes of a job."""

    def __init__(self, job: Job, start: str) -> None:
        self._job = job
        self._start = start
        self._workers: list[_Worker] = []
        self._is_stopped = False

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._workers)

    def add(self, count: int) -> None:
        """Start so many workers more."""
        for _ in range(count):
            self._workers.append(self._make_worker())

    def submit(self, worker: int, task: Task, /) -> None:
        """Send a task to a worker. If it was killed, `receive` notices."""
        self._workers[worker].send(task)

    def receive(self, deliver: Deliver, seconds: float, /) -> None:
        """Deliver what has come from the workers, and replace those that are gone."""
        numbers = {worker.connection: number for number, worker in enumerate(self._workers)}
        for ready in wait(list(numbers), seconds):
            number = numbers[ready]
            try:
                message = self._workers[number].connection.recv()
            except (EOFError, OSError):
                deliver(number, self._replace(number))
            else:
                deliver(number, message)

    def stop(self) -> None:
        """Tell all workers to leave the rest of their tasks."""
        self._is_stopped = True
        for worker in self._workers:
            worker.send(STOP)

    def end(self) -> None:
        """End all workers: those without a task by themselves, so that they can clean up."""
        for worker in self._workers:
            worker.send(END)
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            worker.end(deadline)
        self._workers.clear()

    def _replace(self, number: int) -> Lost:
        """Start another worker in the place of one that is gone. Return what happened to it."""
        gone = self._workers[number]
        gone.end()
        self._workers[number] = self._make_worker()
        return Lost(_describe_exit(gone.process.exitcode, self._start))

    def _make_worker(self) -> _Worker:
        worker = _Worker(self._job, self._start, [each.connection for each in self._workers])
        if self._is_stopped:
            worker.send(STOP)
        return worker


def _count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _describe_exit(code: int | None, start: str) -> str:
    if code is not None and code < 0:
        why = "; the system does that when memory runs out" if code == -9 else ""
        return f"was killed (exit code {code}){why}"
    hint = '; a program that starts processes does so below `if __name__ == "__main__":`' if start == "spawn" else ""
    return f"has ended (exit code {code}){hint}"
