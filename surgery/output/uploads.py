"""The files of finished batches, on their way to the address of a run.

Each process of a run has threads of its own for it. A batch takes these steps, the third one batch after the other:

    announced   `.surgery/unfinished-N` at the address has the names of its files
    written     its files are at the address, and no longer on the local disk
    recorded    it is in the journal on the local disk
    secured     `.surgery/records-...` at the address has what the journal says of it

If sinks gather something, such as statistics, several batches are recorded together, once what was gathered of them is
at the address. The next run removes files that were announced and not secured.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from surgery.interrupts import watch_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.output.remote_run import RemoteRun

FILES_AT_ONCE = 16
"""Files that a process writes to the address at the same time."""
BATCHES_AT_ONCE = 8
MAX_PENDING_BYTES = 256 << 20
"""Bytes of files that wait on the local disk before the model waits for the address."""
MAX_PENDING_BATCHES = 32
"""Batches that wait: they are run again if the process is killed."""
RECENT_BATCHES = 64
"""Batches whose files are known to be there: a batch that is run in parts looks for those of its other parts."""
RECORDS_BYTES = 256 << 10
"""The size at which another object for records is begun: it is written anew for every few batches."""


@dataclass(slots=True, eq=False)
class _Records:
    """An object at the address with the records of batches."""

    name: str
    content: bytes = b""
    secured: int = 0
    """How many bytes of it are at the address."""
    batches: list[int] = field(default_factory=list)
    """The batches that are announced, which they need not be once all is secured."""
    superseded: list[str] = field(default_factory=list)
    """Files at the address that are no longer needed once all is secured."""
    is_kept: bool = False
    """Whether all that is secured has to stay: then it is not written over, since that may be cut off."""


class Recorded(NamedTuple):
    """What the journal has of a batch, and of others that were recorded together with it."""

    content: bytes = b""
    """Empty if the batch waits for the next."""
    superseded: tuple[str, ...] = ()
    """Files at the address that are not needed once this is secured: of a state that earlier records name."""


@dataclass(frozen=True, slots=True)
class BatchUpload:
    """A finished batch, whose files are complete in the staging folder."""

    number: int
    files: Sequence[str]
    common_files: Sequence[str]
    """Those of the whole run that were first needed for it, and which stay in the staging folder."""
    folders: Sequence[str]
    """The folders of its images, to which nothing more is written."""
    finish: Callable[[], Recorded]
    """Records it, or lets it wait; called when its files are at the address."""
    bring: Callable[[str], object] | None = None
    """Takes a file of this name there, for files that are not in the staging folder."""


class _BatchBeforeFailedError(Exception):
    """The batch before has failed, whose error is raised."""


class _Turn:
    """The turn of a batch to be recorded, for which the next batch waits."""

    def __init__(self) -> None:
        self._ended = Event()
        self._is_recorded = False

    def end(self, *, is_recorded: bool) -> None:
        """End the turn, unless it has ended."""
        if not self._ended.is_set():
            self._is_recorded = is_recorded
            self._ended.set()

    def wait(self) -> None:
        """Wait until the batch is recorded. Raises _BatchBeforeFailedError if it can't be."""
        self._ended.wait()
        if not self._is_recorded:
            raise _BatchBeforeFailedError


class Uploads:
    """Takes finished batches to the address of a run. It can be pickled, and used after a fork."""

    def __init__(self, run: RemoteRun) -> None:
        self.run = run
        self._start()

    def __reduce__(self) -> tuple[type[Uploads], tuple[RemoteRun]]:
        return Uploads, (self.run,)

    def _start(self) -> None:
        """Begin without anything to take, in this process."""
        self._process = os.getpid()
        self._pools: list[ThreadPoolExecutor] | None = None
        """The threads for batches and for files, while there is something to do: forks are made when there is not."""
        self._pending: deque[tuple[Future[None], int]] = deque()
        self._pending_bytes = 0
        self._recent: deque[frozenset[str]] = deque(maxlen=RECENT_BATCHES)
        """The files of the last batches."""
        self._error: BaseException | None = None
        self._last = _Turn()
        self._last.end(is_recorded=True)
        self._adding, self._securing = Lock(), Lock()
        self._announced: list[int] = []
        """The batches that wait for their records."""
        self._unsecured: list[_Records] = []
        """Records in their order; but for the last, objects that are full."""
        self._token, self._numbers = uuid4().hex, itertools.count()
        """Of the names of the objects with records."""
        self._length = self._secured = 0
        """The bytes of all records, and how many of them are at the address."""

    def submit(self, batch: BatchUpload) -> None:
        """Take a finished batch. Waits until there is room for more on the local disk.

        Raises the error of an earlier batch.
        """
        if self._process != os.getpid():  # a fork, whose parent had taken all that it had
            self._start()
        self.run.begin()
        size = sum(self.run.local_file(name).stat().st_size for name in batch.files) if batch.bring is None else 0
        while self._pending and not self._has_room_for(size):
            self._await_oldest()
        self._check()
        if self._pools is None:
            counts = {"surgery-batch": BATCHES_AT_ONCE, "surgery-file": FILES_AT_ONCE}
            self._pools = [ThreadPoolExecutor(count, name) for name, count in counts.items()]
        batches, files = self._pools
        before, self._last = self._last, _Turn()
        self._recent.append(frozenset(batch.files))
        with watch_interrupts(held=True) as interrupts:  # a thread that is being started would not be waited for
            task = batches.submit(self._take, batch, files, before, self._last)
            self._pending.append((task, size))
            self._pending_bytes += size
        if interrupts.received:
            raise KeyboardInterrupt

    def has_file(self, name: str) -> bool:
        """Return whether a file is at the address, or on its way: of a recent batch, or of an earlier run."""
        return any(name in names for names in self._recent) or self.run.had_file(name)

    def drain(self, finish: Callable[[], Recorded] = Recorded) -> None:
        """Wait until all batches are secured, and end the threads. Raises the first error of a batch.

        `finish` records those that wait for it.
        """
        self._await_all()
        try:
            recorded = finish()
        except Exception:
            self._check()  # an earlier error
            raise
        self._check()
        self._secure(self._add((), recorded))
        for records in self._unsecured:  # those of the last object, which may grow in the next share of the run
            self.run.forget_announced(records.batches)
            records.batches, records.is_kept = [], True

    def abandon(self, error: BaseException) -> None:
        """End after an error elsewhere: wait for the batches that are under way, and take no other."""
        self._error = self._error or error
        self._await_all()

    @staticmethod
    def count_waiting(images: int, size: int) -> int:
        """Return how many images wait on the local disk at most, if a batch has so many that take `size` bytes."""
        return images * (1 + min(MAX_PENDING_BATCHES, MAX_PENDING_BYTES // max(1, size)))

    def _has_room_for(self, size: int) -> bool:
        return self._pending_bytes + size <= MAX_PENDING_BYTES and len(self._pending) < MAX_PENDING_BATCHES

    def _await_all(self) -> None:
        """Wait until nothing is under way, and end the threads."""
        while self._pending:
            self._await_oldest()
        for pool in self._pools or ():
            pool.shutdown()
        self._pools = None

    def _await_oldest(self) -> None:
        task, size = self._pending.popleft()
        task.exception()
        self._pending_bytes -= size

    def _check(self) -> None:
        """Raise the error of a batch, after which no other is taken."""
        if self._error is not None:
            raise self._error

    def _take(self, batch: BatchUpload, pool: ThreadPoolExecutor, before: _Turn, own: _Turn) -> None:
        """Take a batch through all steps. What is recorded of it goes on from what is recorded of the batch before."""
        try:
            self._check()
            self.run.write_common_files(batch.common_files)
            self.run.announce(batch.number, batch.files)
            for task in [pool.submit(batch.bring or self.run.write_file, name) for name in batch.files]:
                task.result()
            self.run.remove_local_folders(batch.files, batch.folders)
            before.wait()
            length = self._add([batch.number], batch.finish())
            own.end(is_recorded=True)
            self._secure(length)
        except _BatchBeforeFailedError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised on the thread that submits
            self._error = self._error or error
        finally:
            own.end(is_recorded=False)

    def _add(self, numbers: Sequence[int], recorded: Recorded) -> int:
        """Add records to those that are written to the address together. Return the length of all of them.

        `numbers` are batches that were announced.
        """
        with self._adding:
            self._announced += numbers
            if recorded.content:
                if not self._unsecured or len(self._unsecured[-1].content) >= RECORDS_BYTES:
                    self._unsecured.append(_Records(self._next_name()))
                self._unsecured[-1].content += recorded.content
                self._unsecured[-1].superseded += recorded.superseded
                self._unsecured[-1].batches += self._announced
                self._announced = []
                self._length += len(recorded.content)
            return self._length

    def _next_name(self) -> str:
        return f"{self._token}-{next(self._numbers):08}"

    def _secure(self, length: int) -> None:
        """Write records to the address in their order, unless another thread has done so up to this length."""
        with self._securing:
            while self._secured < length:
                with self._adding:
                    records = self._unsecured[0]
                    content, superseded, records.superseded = records.content, records.superseded, []
                records.is_kept |= bool(superseded)
                if records.is_kept and records.secured:
                    superseded.append(self.run.records_file(records.name))
                    records.name = self._next_name()
                self.run.write_records(records.name, content)
                self._secured += len(content) - records.secured
                records.secured = len(content)
                self.run.remove_work_files(superseded)
                if len(content) >= RECORDS_BYTES:  # then nothing was added meanwhile
                    del self._unsecured[0]
                    self.run.forget_announced(records.batches)
