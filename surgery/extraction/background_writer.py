"""A thread beside the one that runs the model, which writes files."""

from __future__ import annotations

from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

MAX_PENDING_BYTES = 16 << 20
"""Bytes that may wait to be written before the model waits for the writer."""
MAX_PENDING_TASKS = 64
"""Tasks that may wait: what waits is lost if the process is killed, also where the pictures are small."""


class BackgroundWriter:
    """Runs tasks one after another on a thread of its own, and lets at most `limit` bytes wait.

    No more than `MAX_PENDING_TASKS` wait either. After the first error, waiting tasks are discarded, and `submit` and
    `drain` raise that error. If `thread` is false, `submit` runs each task at once instead.
    """

    def __init__(self, *, thread: bool = True, limit: int = MAX_PENDING_BYTES) -> None:
        self._limit = limit
        self._tasks: deque[tuple[Callable[[], object], int]] = deque()
        self._pending_bytes = 0
        self._busy = False
        self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="surgery-writer", daemon=True) if thread else None

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def submit(self, task: Callable[[], object], cost: int = 0) -> None:
        """Run a task after all that were submitted before it.

        `cost` is the number of bytes that the task holds. Waits until there is room for them.
        """
        if self._thread is None:
            task()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._has_room_for(cost) or self._error)
            self._raise_error()
            self._tasks.append((task, cost))
            self._pending_bytes += cost
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all tasks are done. Raise the error of a task."""
        with self._changed:
            self._changed.wait_for(lambda: not self._tasks and not self._busy)
            self._raise_error()

    def _has_room_for(self, cost: int) -> bool:
        is_within = self._pending_bytes + cost <= self._limit and len(self._tasks) < MAX_PENDING_TASKS
        return is_within or not self._tasks

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._tasks or self._closed)
                if not self._tasks:
                    return
                task, cost = self._tasks.popleft()
                self._busy = True
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - raised on the thread that runs the model
                with self._changed:
                    self._error = error
                    self._tasks.clear()
                    self._pending_bytes = cost
            del task  # and the pictures that it holds
            with self._changed:
                self._pending_bytes -= cost
