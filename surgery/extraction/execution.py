"""Runs all images, in this process or in worker processes, then writes the manifest."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from surgery.errors import OutputError
from surgery.extraction.batch_loop import run_share
from surgery.extraction.first_images import decide_as_first_shard, one_thread, run_first_images
from surgery.extraction.run_plan import ShareResult, TotalResult
from surgery.extraction.trial import choosing_images
from surgery.extraction.worker_processes import picklable_error, run_workers
from surgery.extraction.writer_pool import WriterPool
from surgery.output import Progress, Tally, has_finished_images, merge_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.extraction.run_plan import RunPlan
    from surgery.extraction.worker_processes import StopSignal
    from surgery.output import Manifest
    from surgery.stages import Write

    ProgressCallback = Callable[[Progress], None]


def run_in_this_process(
    plan: RunPlan, manifest: Manifest, watches: Sequence[Write], on_progress: ProgressCallback | None
) -> TotalResult:
    """Run all images in this process, with threads that read in advance and threads that write."""
    if not (numbers := plan.unfinished_numbers()):
        return _finish_run(plan, manifest, [])
    decide_as_first_shard(plan, manifest)
    with choosing_images(numbers) as chosen, WriterPool(plan.writer_threads) as writers:
        share = run_share(plan, chosen, manifest, writers, watches=watches, on_progress=on_progress or (lambda _: None))
    return _finish_run(plan, manifest, [share])


def run_in_worker_processes(
    plan: RunPlan, manifest: Manifest, jobs: int, on_progress: ProgressCallback | None
) -> TotalResult:
    """Run the images in `jobs` processes, which take turns at the batches."""
    plan.interrupts.hold()  # what workers send must be read to its end; they are asked to end instead
    with one_thread():
        decide_as_first_shard(plan, manifest)
        shares, numbers = run_first_images(plan, manifest)
    if not numbers or any(share.error is not None or share.interrupted for share in shares):
        return _finish_run(plan, manifest, shares)
    manifests = [manifest.for_worker() for _ in range(jobs)]
    total_progress = _TotalProgress(plan, on_progress)

    def work(number: int, send: Callable[[Any], None], stop: StopSignal) -> ShareResult:
        own = [image for image in numbers if image // plan.batch_size % jobs == number]
        # One thread for everything: the other cores have worker processes of their own.
        with WriterPool(0) as writers:
            share = run_share(plan, own, manifests[number], writers, on_progress=send, is_stopped=stop.is_set)
        share.worker_state = manifests[number].worker_state()
        if share.error is not None:
            stop.set()
            share.error = picklable_error(share.error)
        return share

    worker_shares: list[ShareResult] = []
    worker_error: Exception | None = None
    try:
        run_workers(jobs, work, total_progress.update, worker_shares.append, lambda: plan.interrupts.is_waiting)
    except Exception as error:  # noqa: BLE001 - raised once the manifest is written
        worker_error = error
    for share in worker_shares:
        if share.worker_state is not None:
            manifest.add_worker_state(share.worker_state)
    shares += worker_shares
    if worker_error is not None or len(worker_shares) < jobs:  # Ctrl-C or an error ended some of them
        shares.append(ShareResult(interrupted=True, error=worker_error))
    return _finish_run(plan, manifest, shares)


class _TotalProgress:
    """Adds up the progress of worker processes."""

    def __init__(self, plan: RunPlan, on_progress: ProgressCallback | None) -> None:
        self._total = len(plan.numbers)
        self._earlier = len(plan.finished)
        self._on_progress = on_progress
        self._by_worker: dict[int, Progress] = {}

    def update(self, worker: int, progress: Progress) -> None:
        """Report the progress of all workers after one of them has sent its own."""
        self._by_worker[worker] = progress
        if self._on_progress is not None:
            done = self._earlier + sum(each.done - self._earlier for each in self._by_worker.values())
            failed = sum(each.failed for each in self._by_worker.values())
            self._on_progress(Progress(done, failed, self._total, progress.image))


def _finish_run(plan: RunPlan, manifest: Manifest, shares: Sequence[ShareResult]) -> TotalResult:
    """Write the manifest of all shares and return their combined result. Raise the error of a share."""
    notes = dict(plan.notes) if plan.shard is None or plan.shard.number == 1 else {}  # which all shards have
    for share in shares:
        merge_notes(notes, share.notes)
    failures = sorted((failure for share in shares for failure in share.failures), key=attrgetter("number"))
    error = next((share.error for share in shares if share.error is not None), None)
    interrupted = error is not None or any(share.interrupted for share in shares)
    tally = Tally()
    if not shares and manifest.is_complete:  # nothing was left to do
        tally = manifest.tally()
    elif plan.finished or has_finished_images(plan.workspace.path) or (plan.shard is not None and not interrupted):
        # otherwise the folder stays as it was; that of a shard tells that it has no image that can be run
        try:
            tally = manifest.write(failures, interrupted=interrupted, error=error, notes=notes)
            if failures or interrupted:
                plan.workspace.remove_unfinished_files(tally.finished)
        except OutputError:
            if error is None:
                raise
    if error is not None:
        raise error
    merge_notes(notes, tally.notes)
    return TotalResult(tally, tuple(failures), notes, interrupted)
