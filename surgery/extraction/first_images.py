"""What sinks decide from the first images of a run, for a shard that does not have them."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from surgery.extraction.run_job import RunJob
from surgery.output import Manifest, OutputFolder, acquire_workspace
from surgery.stages import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.extraction.run_plan import RunPlan, TaskResult
    from surgery.interrupts import Interrupts


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, torch has one thread: a fork of a process with several would wait for them forever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def decide_as_first_shard(plan: RunPlan, manifest: Manifest, interrupts: Interrupts) -> None:
    """Have the sinks of a later shard decide what they decide in the first one, from the first images of the run.

    These images are run once more, into a folder that is removed. Raises what ends their run.
    """
    deciding = tuple(sink for sink in plan.sinks if getattr(sink, "decides_on_first_image", False))
    is_first = plan.shard is None or plan.shard.number == 1
    if is_first or plan.finished or not plan.numbers or not deciding:
        return
    place = plan.workspace.path / "first.part"
    try:
        with acquire_workspace(place) as workspace:
            folder = OutputFolder(place, plan.folder.about, workspace)
            folder.plan_images(plan.inputs.names, plan.inputs.paths, plan.batch_size)
            whole = replace(
                plan,
                folder=folder,
                workspace=workspace,
                sinks=deciding,
                numbers=range(len(plan.inputs.names)),
                reference=None,
                unedited=None,
            )
            record = Manifest(manifest.head)
            with record.recording(workspace, ()):
                result = _run_until_one_is_finished(RunJob(whole, record.head, interrupts, 1, 0))
            workspace.is_recorded = True  # nothing of it is kept
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if result is not None and result.error is not None:
        raise result.error
    if result is not None and result.interrupted:
        raise KeyboardInterrupt
    plan.folder.shared.update(folder.shared)


def _run_until_one_is_finished(job: RunJob) -> TaskResult | None:
    """Run batches until one is finished. Return what became of the last one."""
    result = None
    with _restoring_buffers(job.plan), job.open() as worker:
        numbers, size = job.plan.numbers, job.plan.batch_size
        for first in range(0, len(numbers), size):
            sent: list[TaskResult] = []
            worker.run(Task(tuple(numbers[first : first + size]), "first", {}), sent.append, lambda: False)
            result = sent[-1]
            if result.images or result.error or result.interrupted:
                break
    return result


@contextmanager
def _restoring_buffers(plan: RunPlan) -> Iterator[None]:
    """After the block, the buffers of the model are what they were: the worker of a run begins with them."""
    initial = [(buffer, buffer.clone()) for buffer in plan.rewritten.buffers()]
    try:
        yield
    finally:
        for buffer, value in initial:
            buffer.copy_(value)
