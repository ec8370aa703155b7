"""Several processes that share the inputs of a run."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import time
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from surgery.errors import ModelError, SurgeryError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable

PARENT_CHECK_INTERVAL = 0.2
"""Seconds between two looks of a worker at whether the process that began it is still there."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StopSignal:
    """Asks all workers to end soon. It has no lock, which a worker that is killed could hold for ever."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)  # which forks have in common

    def set(self) -> None:
        """Ask them."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Whether they are asked."""
        return self._byte[0] == 1

    def wait(self, seconds: float) -> bool:
        """Wait so long for it, at most. Returns whether they are asked."""
        end = time.monotonic() + seconds
        while not self.is_set() and time.monotonic() < end:
            time.sleep(0.02)
        return self.is_set()


class WorkerFunction(Protocol[T_co]):
    """A process's part of the work.

    It takes its number, a function that tells the parent something, and what asks all of them to stop soon.
    """

    def __call__(self, number: int, tell: Callable[[Any], None], stop: StopSignal, /) -> T_co: ...


@dataclass(slots=True)
class _Worker:
    """A process, and whether it has come to its end."""

    process: Any
    messages: Connection
    ended: bool = False


def run_workers(
    count: int,
    work: WorkerFunction[T],
    on_message: Callable[[int, Any], None],
    on_result: Callable[[T], object] = lambda _: None,
) -> None:
    """Run `work` in each of `count` forks of this process, each with one thread for torch.

    `on_message` is called with the number of a process and each message that it sends, and `on_result` with what its
    work returned. After the first error, after Ctrl-C, and when one of them is killed, the others are asked to stop;
    the error is raised once they have. None of them lives on when this process is killed.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ModelError("several jobs need a system on which a process can be forked; use one job")
    stop = StopSignal()
    workers = [_start(work, number, stop) for number in range(count)]
    error: BaseException | None = None
    while waiting := {worker.messages: number for number, worker in enumerate(workers) if not worker.ended}:
        try:
            for ready in wait(list(waiting)):
                number = waiting[ready]  # type: ignore[index]
                found = _receive(workers[number], number, on_message, on_result)
                error = error or found
        except BaseException as caught:  # noqa: BLE001 - Ctrl-C, or an error of who on_message: raised below
            error = error or caught
        if error is not None:
            stop.set()
    for worker in workers:
        worker.process.join()
    if error is not None and not isinstance(error, KeyboardInterrupt):
        raise error


def _start(work: WorkerFunction[Any], number: int, stop: StopSignal) -> _Worker:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, number, there, stop, os.getpid()))
    with warnings.catch_warnings():
        # Newer Pythons warn of threads that are lost in a fork: those of torch, and each fork uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    there.close()
    return _Worker(process, here)


def _receive(
    worker: _Worker, number: int, on_message: Callable[[int, Any], None], on_result: Callable[[Any], object]
) -> BaseException | None:
    """Take one message. Returns the error that it is, or that the worker ended without one."""
    try:
        kind, content = worker.messages.recv()
    except EOFError:
        worker.ended = True
        worker.process.join()
        code = worker.process.exitcode
        why = "; the system does that where memory runs out" if code == -9 else ""
        return SurgeryError(f"job {number} was killed (exit code {code}){why}")
    if kind == "told":
        on_message(number, content)
        return None
    worker.ended = True
    if kind == "failed":
        error: BaseException = content
        return error
    on_result(content)
    return None


def _run(work: WorkerFunction[Any], number: int, messages: Connection, stop: StopSignal, parent: int) -> None:
    Thread(target=_exit_with_parent, args=(parent,), name="surgery-parent", daemon=True).start()
    torch.set_num_threads(1)
    try:
        result = work(number, lambda content: messages.send(("told", content)), stop)
        messages.send(("done", result))
    except BaseException as error:  # noqa: BLE001 - it is raised in the parent
        messages.send(("failed", picklable_error(error)))


def _exit_with_parent(parent: int) -> None:
    """End this process as soon as it is an orphan: what it would go on to write, nobody waits for."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_INTERVAL)
    os._exit(1)


def picklable_error(error: BaseException) -> BaseException:
    """An error that can be sent to another process: itself, or one of ours that says what it said."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - whatever a stranger's error does when it is pickled
        return SurgeryError(f"{type(error).__name__}: {first_line(error)}")
    return error
