"""The job of a run: what its workers open, in this process or, packed, in any other."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.extraction.job_packing import PackedJob, pack_job
from surgery.extraction.job_worker import RunWorker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

    from surgery.extraction.run_plan import RunPlan
    from surgery.interrupts import Interrupts
    from surgery.stages import Write


@dataclass(frozen=True, slots=True, eq=False)
class RunJob:
    """The job of a run, for this process and its forks."""

    plan: RunPlan
    head: dict[str, Any]
    """That of the manifest."""
    interrupts: Interrupts
    batches: int
    """How many are left to do."""
    writer_threads: int
    """Threads that draw and write in each worker."""
    watches: Sequence[Write] = ()
    """Called with each activation, where this process is the worker."""

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self.plan.device)

    @contextmanager
    def open(self) -> Iterator[RunWorker]:
        """Open the job in this process, or in a fork of it."""
        worker = RunWorker(
            lambda: (self.plan, self.head),
            self.interrupts,
            writer_threads=self.writer_threads,
            watches=self.watches,
        )
        try:
            yield worker
        finally:
            worker.close()

    def pack(self, pickler: ModuleType = pickle, /) -> PackedJob:
        """Return the job for a process that is no fork of this one. Raises ModelError for what can't be pickled."""
        return pack_job(self.plan, self.head, self.batches, self.writer_threads, pickler)
