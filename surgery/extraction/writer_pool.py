"""Threads beside the one that runs the model, which draw and write files."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from surgery.extraction.background_writer import MAX_PENDING_BYTES, BackgroundWriter

if TYPE_CHECKING:
    from types import TracebackType


class WriterPool:
    """Writers with a thread each, among which the images are divided; all their tasks may hold `limit` bytes.

    With 0 threads there is one writer, which runs its tasks at once.
    """

    def __init__(self, threads: int = 1, limit: int = MAX_PENDING_BYTES) -> None:
        count = max(1, threads)
        self.writers = tuple(BackgroundWriter(thread=threads > 0, limit=limit // count) for _ in range(count))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for writer in self.writers:
            self._stack.enter_context(writer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def drain(self) -> None:
        """Wait until all tasks of all writers are done. Raise the first error of a task."""
        errors = []
        for writer in self.writers:
            try:
                writer.drain()
            except Exception as error:  # noqa: BLE001 - raised when all have ended
                errors.append(error)
        if errors:
            raise errors[0]
