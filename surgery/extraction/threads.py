"""Two threads beside the one that runs the model: one reads ahead, one writes."""

from __future__ import annotations

import queue
from collections import deque
from contextlib import suppress
from threading import Condition, Thread
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

T = TypeVar("T")

MAX_PENDING_BYTES = 16 << 20
"""Bytes of pictures that may wait to be written before the model waits for them."""


class Prefetcher(Generic[T]):
    """Goes through an iterable on a thread of its own, at most `depth` items ahead of who takes them.

    An error of the iterable is raised where its item would have been taken.
    """

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._source = source
        self._ready: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(max(1, depth))
        self._left = False
        self._thread = Thread(target=self._run, name="surgery-reader", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        self._left = True
        with suppress(queue.Empty):  # room, for a thread that waits to hand something over
            while True:
                self._ready.get_nowait()
        self._thread.join()

    def _run(self) -> None:
        error = None
        try:
            for item in self._source:
                self._ready.put(([item], None))
                if self._left:
                    return
        except BaseException as caught:  # noqa: BLE001 - it is raised on the thread that takes the items
            error = caught
        self._ready.put(([], error))

    def _items(self) -> Iterator[T]:
        while True:
            items, error = self._ready.get()
            if error is not None:
                raise error
            if not items:
                return
            yield from items


class BackgroundWriter:
    """Runs what it is given on a thread of its own, one after the other, while at most `limit` bytes wait.

    The first error ends that: what waits is thrown away, and the error is raised by the next `submit` or `drain`.
    Without a `thread`, everything is run at once by `submit`.
    """

    def __init__(self, *, thread: bool = True, limit: int = MAX_PENDING_BYTES) -> None:
        self._limit = limit
        self._jobs: deque[tuple[Callable[[], object], int]] = deque()
        self._cost = 0
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

    def submit(self, job: Callable[[], object], cost: int = 0) -> None:
        """Have `job` run after all that were given before; `cost` is the bytes that it holds until then."""
        if self._thread is None:
            job()
            return
        with self._changed:
            self._changed.wait_for(lambda: self._cost + cost <= self._limit or not self._jobs or self._error)
            self._raise()
            self._jobs.append((job, cost))
            self._cost += cost
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all is done."""
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs and not self._busy)  # at once, where there is no thread
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                job, cost = self._jobs.popleft()
                self._busy = True
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - it is raised on the thread that runs the model
                with self._changed:
                    self._error = error
                    self._jobs.clear()
                    self._cost = cost
            del job  # and the pictures that it holds
            with self._changed:
                self._cost -= cost
