"""Threads that read inputs in advance, beside the one that runs the model."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from surgery.extraction.prefetcher import Prefetcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

T = TypeVar("T")


@contextmanager
def read_ahead(
    read: Callable[[int], Iterable[T]], numbers: Iterable[int], depth: int, threads: int
) -> Iterator[Iterator[T]]:
    """Yield an iterator over the items of ``read(number)`` for all numbers, in this order.

    Each of so many threads reads one number at a time, at most `depth` numbers in advance, and one each; with 0, the
    calling thread reads them when they are asked for. An error of `read` is raised by the iterator, in the place of the
    items. When the block ends, the threads end after what they are reading.
    """
    if threads == 0:
        yield chain.from_iterable(map(read, numbers))
    elif threads == 1:
        with Prefetcher(chain.from_iterable(map(read, numbers)), depth) as items:
            yield items
    else:
        pool = ThreadPoolExecutor(threads, "surgery-reader")
        try:
            yield chain.from_iterable(_results(pool, read, iter(numbers), depth + threads))
        finally:
            pool.shutdown(cancel_futures=True)


def _results(
    pool: ThreadPoolExecutor, read: Callable[[int], Iterable[T]], numbers: Iterator[int], depth: int
) -> Iterator[list[T]]:
    """Yield the items of each number, which threads of the pool read, at most `depth` numbers in advance."""
    waiting: deque[Future[list[T]]] = deque()

    def read_all(number: int) -> list[T]:
        return list(read(number))

    for number in numbers:
        waiting.append(pool.submit(read_all, number))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
