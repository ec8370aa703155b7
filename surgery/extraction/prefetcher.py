"""A thread beside the one that runs the model, which reads inputs in advance."""

from __future__ import annotations

import queue
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterates over `source` on a thread of its own, at most `depth` items in advance.

    As a context manager it returns an iterator over the items. An error of `source` is raised by that iterator, in the
    place of the item.
    """

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._source = source
        self._ready: queue.Queue[tuple[list[T], BaseException | None]] = queue.Queue(max(1, depth))
        self._closed = False
        self._thread = Thread(target=self._run, name="surgery-reader", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with suppress(queue.Empty):  # make room if the thread waits to add an item
            while True:
                self._ready.get_nowait()
        self._thread.join()

    def _run(self) -> None:
        error = None
        try:
            for item in self._source:
                self._put([item], None)
                if self._closed:
                    return
        except BaseException as caught:  # noqa: BLE001 - raised on the thread that takes the items
            error = caught
        self._put([], error)

    def _put(self, items: list[T], error: BaseException | None) -> None:
        """Add an item when there is room for it, unless nobody will take it."""
        while not self._closed:
            with suppress(queue.Full):
                self._ready.put((items, error), timeout=0.1)
                return

    def _items(self) -> Iterator[T]:
        while True:
            items, error = self._ready.get()
            if error is not None:
                raise error
            if not items:
                return
            yield from items
