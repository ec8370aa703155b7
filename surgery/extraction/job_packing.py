"""A run's job as bytes, for workers that share only the files with the process that made it."""

from __future__ import annotations

import io
import pickle
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import ModelError, SurgeryError, first_line
from surgery.extraction.job_worker import RunWorker
from surgery.extraction.module_sources import ModuleSources
from surgery.interrupts import watch_interrupts
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from surgery.extraction.run_plan import RunPlan

_PARTS = {
    "original": "the model",
    "rewritten": "the traced model",
    "reference": "the model",
    "unedited": "the traced model",
    "recipe": "a stage of the pictures",
    "inputs": "a reader",
    "measures": "a measure",
}
"""What the fields of a plan are for the user."""
_REMEDY = "define it in a module that can be imported, or use an engine of this process: local, or processes by fork"


@dataclass(frozen=True, slots=True, eq=False)
class PackedJob:
    """A job that can be pickled, and opened in a process that shares only files with the one that packed it."""

    content: bytes
    """The plan of the run and the head of its manifest."""
    modules: ModuleSources
    """How what the content refers to can be imported."""
    device: str
    batches: int
    writer_threads: int

    @contextmanager
    def open(self) -> Iterator[RunWorker]:
        """Open the job in a worker."""
        with watch_interrupts(held=True) as interrupts:
            worker = RunWorker(self._unpack, interrupts, writer_threads=self.writer_threads)
            try:
                yield worker
            finally:
                worker.close()

    def pack(self, _pickler: ModuleType = pickle, /) -> PackedJob:
        """Return the job itself."""
        return self

    def _unpack(self) -> tuple[RunPlan, dict[str, Any]]:
        self.modules.restore()
        try:
            plan, head = torch.load(io.BytesIO(self.content), weights_only=False)  # what `pack_job` has written
        except Exception as error:
            raise SurgeryError(f"a worker can't open the job: {type(error).__name__}: {first_line(error)}") from error
        return plan, head


def pack_job(plan: RunPlan, head: dict[str, Any], batches: int, writer_threads: int, pickler: ModuleType) -> PackedJob:
    """Return the job of a run as bytes. Tensors that share memory still share it when it is open.

    Raises ModelError, which says what can't be pickled.
    """
    try:
        content = _dump((plan, head), pickler)
    except Exception as error:
        raise ModelError(f"{_find_culprit(plan, pickler, error)}; {_REMEDY}") from error
    return PackedJob(content, ModuleSources.current(), str(plan.device), batches, writer_threads)


def _dump(value: Any, pickler: ModuleType) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_module=pickler)
    return buffer.getvalue()


def _find_culprit(plan: RunPlan, pickler: ModuleType, error: Exception) -> str:
    """Return what of a plan can't be pickled, in words."""
    parts = [(f"the sink {describe_stage(sink)}", sink) for sink in plan.sinks]
    parts += [(_PARTS.get(field.name, field.name), getattr(plan, field.name)) for field in fields(plan)]
    for name, part in parts:
        try:
            _dump(part, pickler)
        except Exception as found:  # noqa: BLE001 - pickling runs the code of any class
            return f"{name} can't be sent to other processes ({first_line(found)})"
    return f"the run can't be sent to other processes ({first_line(error)})"
