"""What the checks of engines run: a job that does what its tasks say, and a reader with which workers are lost."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from surgery.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from surgery.stages import Task

__all__ = ["COUNT", "DIE", "WAIT", "KillingReader", "SampleJob", "SampleModel", "this_process"]

COUNT, DIE, WAIT = "count", "die", "wait"
"""What a task of a `SampleJob` says, in place of a journal."""
HEARTBEAT = 0.05
"""Seconds between two marks of a worker that waits."""


def this_process() -> str:
    """Return a text that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class SampleJob:
    """A job whose tasks count, wait until they are stopped, or kill their worker."""

    folder: str
    """Where its workers leave their marks."""
    driver: str
    """The process that checks, which is not killed."""
    batches: int = 8
    device: str = "cpu"

    def pack(self, _pickler: ModuleType | None = None, /) -> SampleJob:
        """Return the job itself, which can be pickled."""
        return self

    @contextmanager
    def open(self) -> Iterator[SampleWorker]:
        """Open the job in a worker."""
        yield SampleWorker(self)


class SampleWorker:
    """Does what the tasks say."""

    def __init__(self, job: SampleJob) -> None:
        self._job = job

    def run(self, task: Task, send: Callable[[Any], None], is_stopped: Callable[[], bool], /) -> None:
        """Do a task. The messages are of two words: what it is, and the process or the image."""
        send(("started", this_process()))
        if task.journal == DIE and this_process() != self._job.driver:
            kill_this_process()
        for image in task.images:
            send(("image", image))
        beats = Path(self._job.folder) / "beats"
        end = time.monotonic() + (30 if task.journal == WAIT else 0)
        while time.monotonic() < end and not is_stopped():
            with beats.open("a") as file:
                file.write(".")
            time.sleep(HEARTBEAT)
        send(("done", is_stopped()))


def kill_this_process() -> None:
    """End this process at once, as the system does when memory runs out."""
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(1)


class SampleModel(nn.Module):
    """Its values depend on the batch and on random numbers, and are exact on any machine."""

    def forward(self, x: Tensor) -> Tensor:
        """Double the input ``(B, 1, H, W)``, and join it with its signs and a dropout."""
        doubled = x * 2
        return torch.cat([doubled, doubled.sum(0, keepdim=True).expand_as(x), nn.functional.dropout(doubled.sign())], 1)


@dataclass(frozen=True, slots=True)
class KillingReader:
    """Reads arrays, and kills its process when it reads some files: at each time, or the first."""

    driver: str
    """The process that checks, which is not killed: there the deadly files can't be read."""
    deadly: tuple[str, ...] = ()
    """Names of files that kill each process."""
    once: tuple[str, ...] = ()
    """Names of files that kill the first process that reads them."""

    def __call__(self, path: Path, /) -> Tensor:
        """Return ``(1, 1, H, W)`` float32."""
        if path.name in self.deadly:
            if this_process() == self.driver:
                raise ImageError(f"{path} kills processes")
            kill_this_process()
        if path.name in self.once and this_process() != self.driver:
            mark = path.with_suffix(".mark")
            if not mark.exists():
                mark.touch()
                kill_this_process()
        return torch.from_numpy(np.load(path))
