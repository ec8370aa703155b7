"""Several processes that share the inputs of a run."""

from __future__ import annotations

import multiprocessing
import pickle
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from surgery.errors import ModelError, SurgeryError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Event

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Work(Protocol[T_co]):
    """A process's part of the work.

    It takes its number, a function that tells the parent something, and an event that asks all of them to stop soon.
    """

    def __call__(self, number: int, tell: Callable[[Any], None], stop: Event, /) -> T_co: ...


@dataclass(slots=True)
class _Job(Generic[T]):
    """A process, and what is known of it."""

    process: Any
    messages: Connection
    result: T | None = None
    ended: bool = False


def run_jobs(count: int, work: Work[T], heard: Callable[[int, Any], None]) -> list[T | None]:
    """What `work` returns in each of `count` forks of this process, each with one thread for torch.

    `heard` is called with the number of a process and what it tells. After the first error, and after Ctrl-C, all are
    asked to stop; the error is raised once they have. None stands for one that Ctrl-C ended before it had a result.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ModelError("several jobs need a system on which a process can be forked; use one job")
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    jobs: list[_Job[T]] = []
    for number in range(count):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(work, number, there, stop))
        with warnings.catch_warnings():
            # Newer Pythons warn of threads that are lost in a fork: those of torch, and each fork uses none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        there.close()
        jobs.append(_Job(process, here))
    error: BaseException | None = None
    while waiting := {job.messages: number for number, job in enumerate(jobs) if not job.ended}:
        try:
            for ready in wait(list(waiting)):
                number = waiting[ready]  # type: ignore[index]
                found = _receive(jobs[number], number, heard)
                error = error or found
        except BaseException as caught:  # noqa: BLE001 - Ctrl-C, or an error of who heard: raised below
            error = error or caught
        if error is not None:
            stop.set()
    for job in jobs:
        job.process.join()
    if error is not None and not isinstance(error, KeyboardInterrupt):
        raise error
    return [job.result for job in jobs]


def _receive(job: _Job[T], number: int, heard: Callable[[int, Any], None]) -> BaseException | None:
    """Take one message. Returns the error that it is, or that the job ended without one."""
    try:
        kind, content = job.messages.recv()
    except EOFError:
        job.ended = True
        job.process.join()
        return SurgeryError(f"job {number} was killed (exit code {job.process.exitcode})")
    if kind == "told":
        heard(number, content)
        return None
    job.ended = True
    if kind == "failed":
        error: BaseException = content
        return error
    job.result = content
    return None


def _run(work: Work[Any], number: int, messages: Connection, stop: Event) -> None:
    torch.set_num_threads(1)
    try:
        result = work(number, lambda content: messages.send(("told", content)), stop)
        messages.send(("done", result))
    except BaseException as error:  # noqa: BLE001 - it is raised in the parent
        messages.send(("failed", sendable(error)))


def sendable(error: BaseException) -> BaseException:
    """An error that can be sent to another process: itself, or one of ours that says what it said."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever a stranger's error does when it is pickled
        return SurgeryError(f"{type(error).__name__}: {first_line(error)}")
    return error
