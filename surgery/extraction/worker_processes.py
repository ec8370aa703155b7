"""Worker processes, which are forks of the main process and send it messages."""

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
"""Seconds between two checks of a worker that its parent process still exists."""

INTERRUPT_CHECK_INTERVAL = 0.2
"""Seconds between two checks whether Ctrl-C was pressed while it is held."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class StopSignal:
    """Asks all workers to end soon.

    It has no lock, since a worker that is killed could hold the lock forever.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)  # forks share this memory

    def set(self) -> None:
        """Ask all workers to end soon."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Return whether the workers are asked to end."""
        return self._byte[0] == 1

    def wait(self, seconds: float) -> bool:
        """Wait for the signal, at most `seconds`. Return whether it is set."""
        end = time.monotonic() + seconds
        while not self.is_set() and time.monotonic() < end:
            time.sleep(0.02)
        return self.is_set()


class WorkerFunction(Protocol[T_co]):
    """What a worker runs.

    It takes the number of the worker, a function that sends a message to the parent, and the signal to end soon. Its
    result is sent to the parent.
    """

    def __call__(self, number: int, send: Callable[[Any], None], stop: StopSignal, /) -> T_co: ...


@dataclass(slots=True)
class _Worker:
    """A worker process, seen from the parent."""

    process: Any
    messages: Connection
    ended: bool = False


def run_workers(
    count: int,
    work: WorkerFunction[T],
    on_message: Callable[[int, Any], None],
    on_result: Callable[[T], object] = lambda _: None,
    is_interrupted: Callable[[], bool] = lambda: False,
) -> None:
    """Run `work` in each of `count` forks of this process, with one thread of torch each.

    `on_message` is called with the number of a worker and a message that it sent, and `on_result` with a result of
    `work`. After the first error, after Ctrl-C, when `is_interrupted` returns true, or if a worker is killed, the
    others are asked to end. The error is raised when all have ended. A worker ends if this process is killed.

    Raises ModelError on a system without fork, and SurgeryError if a worker is killed.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ModelError("several jobs need a system that can fork a process, which this one can't; use one job")
    stop = StopSignal()
    workers = [_start(work, number, stop) for number in range(count)]
    error: BaseException | None = None
    while waiting := {worker.messages: number for number, worker in enumerate(workers) if not worker.ended}:
        try:
            for ready in wait(list(waiting), INTERRUPT_CHECK_INTERVAL):
                number = waiting[ready]  # type: ignore[index]
                received = _receive(workers[number], number, on_message, on_result)
                error = error or received
        except BaseException as caught:  # noqa: BLE001 - Ctrl-C, or an error of a callback: raised below
            error = error or caught
        if error is not None or is_interrupted():
            stop.set()
    for worker in workers:
        worker.process.join()
    if error is not None and not isinstance(error, KeyboardInterrupt):
        raise error


def _start(work: WorkerFunction[Any], number: int, stop: StopSignal) -> _Worker:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, number, sender, stop, os.getpid()))
    with warnings.catch_warnings():
        # Python 3.12 warns that a fork loses threads. The lost threads are those of torch, which workers don't use.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    return _Worker(process, receiver)


def _receive(
    worker: _Worker, number: int, on_message: Callable[[int, Any], None], on_result: Callable[[Any], object]
) -> BaseException | None:
    """Handle one message. Return the error in it, or an error if the worker was killed; None for other messages."""
    try:
        kind, content = worker.messages.recv()
    except EOFError:
        worker.ended = True
        worker.process.join()
        code = worker.process.exitcode
        why = "; the system does that when memory runs out" if code == -9 else ""
        return SurgeryError(f"job {number} was killed (exit code {code}){why}")
    if kind == "message":
        on_message(number, content)
        return None
    worker.ended = True
    if kind == "error":
        error: BaseException = content
        return error
    on_result(content)
    return None


def _run(work: WorkerFunction[Any], number: int, messages: Connection, stop: StopSignal, parent: int) -> None:
    Thread(target=_exit_with_parent, args=(parent,), name="surgery-parent", daemon=True).start()
    torch.set_num_threads(1)
    try:
        result = work(number, lambda content: messages.send(("message", content)), stop)
        messages.send(("result", result))
    except BaseException as error:  # noqa: BLE001 - raised in the parent
        messages.send(("error", picklable_error(error)))


def _exit_with_parent(parent: int) -> None:
    """End this process when its parent process no longer exists, since its output would be left unfinished."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_INTERVAL)
    os._exit(1)


def picklable_error(error: BaseException) -> BaseException:
    """Return an error that can be sent to another process: the same, or a SurgeryError with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:  # noqa: BLE001 - an error of a plugin or model may raise anything when it is pickled
        return SurgeryError(f"{type(error).__name__}: {first_line(error)}")
    return error
