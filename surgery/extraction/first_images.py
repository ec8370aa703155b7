"""What sinks decide from the first images of a run, before its other images are divided among processes or shards."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from surgery.extraction.batch_loop import run_share
from surgery.extraction.writer_pool import WriterPool
from surgery.output import Manifest, OutputFolder, acquire_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.extraction.run_plan import RunPlan, ShareResult


def run_first_images(plan: RunPlan, manifest: Manifest) -> tuple[list[ShareResult], list[int]]:
    """Run batches until one succeeds, if a sink decides something for all images from the first image.

    What it decides is in `OutputFolder.shared`. Return what was done, and the numbers of the images that are left.
    """
    shares: list[ShareResult] = []
    numbers = plan.unfinished_numbers()
    if plan.finished or not any(getattr(sink, "decides_on_first_image", False) for sink in plan.sinks):
        return shares, numbers
    with _restoring_buffers(plan):
        while numbers and not any(share.images or share.error or share.interrupted for share in shares):
            batch, numbers = numbers[: plan.batch_size], numbers[plan.batch_size :]
            with WriterPool(0) as writers:
                shares.append(run_share(plan, batch, manifest, writers))
            plan.inputs.failures, plan.inputs.notes = [], {}
    return shares, numbers


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, torch has one thread: a fork of a process with several would wait for them forever."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def decide_as_first_shard(plan: RunPlan, manifest: Manifest) -> None:
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
            every = range(len(plan.inputs.names))
            whole = replace(
                plan,
                folder=folder,
                workspace=workspace,
                sinks=deciding,
                numbers=every,
                reference=None,
                unedited=None,
                force=True,  # its files don't stay
            )
            record = Manifest(manifest.head)
            with record.recording(workspace, ()):
                shares, _ = run_first_images(whole, record)
            workspace.is_recorded = True  # nothing of it is kept
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for share in shares:
        if share.error is not None:
            raise share.error
        if share.interrupted:
            raise KeyboardInterrupt
    plan.folder.shared.update(folder.shared)


@contextmanager
def _restoring_buffers(plan: RunPlan) -> Iterator[None]:
    """After the block, the buffers of the model are what they were: each run of a share begins with them."""
    initial = [(buffer, buffer.clone()) for buffer in plan.rewritten.buffers()]
    try:
        yield
    finally:
        for buffer, value in initial:
            buffer.copy_(value)
