"""A run's inputs, one batch after the other: in this process, or shared among several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import OutputError
from surgery.extraction.batch_runner import BatchRunner
from surgery.extraction.threads import BackgroundWriter, Prefetcher
from surgery.extraction.worker_processes import picklable_error, run_workers
from surgery.inputs import Notes, explain_size_mismatch, format_notes, group_into_batches, merge_notes
from surgery.output import Failure, OperationSummary, Progress, has_finished_images, merge_summaries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import fx, nn

    from surgery.extraction.worker_processes import StopSignal
    from surgery.inputs import Inputs
    from surgery.output import Manifest, OutputFolder, Workspace
    from surgery.stages import Limits, Recipe, Sink, Write


@dataclass(frozen=True, slots=True, eq=False)
class RunPlan:
    """What is to be done."""

    opened: fx.GraphModule
    original: nn.Module
    subject: nn.Module | None
    """The model to compare the first output with; None where that is not wanted."""
    recipe: Recipe
    span: tuple[float, float]
    colors: Limits | None
    sinks: tuple[Sink, ...]
    folder: OutputFolder
    workspace: Workspace
    inputs: Inputs
    batch_size: int
    device: torch.device
    seed: int
    output: bool


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was done."""

    images: int
    files: int
    failed: tuple[Failure, ...]
    summaries: tuple[OperationSummary, ...]
    notes: Notes
    interrupted: bool
    overview: str | None = None
    """The first file that is of a whole image."""


@dataclass(slots=True)
class _WorkerResult:
    """What came of one process's share of the inputs."""

    images: int
    failed: list[Failure]
    notes: Notes
    summaries: dict[str, OperationSummary]
    interrupted: bool
    error: BaseException | None
    state: tuple[Any, ...] = ()
    """Of its part of the manifest."""
    overview: str | None = None
    """The first file that is of a whole image."""


def run_in_this_process(
    plan: RunPlan, manifest: Manifest, watches: Sequence[Write], progress: Callable[[Progress], None] | None
) -> RunResult:
    """Do all of it in this process, with one thread that reads ahead and one that writes in the background."""
    numbers = range(len(plan.inputs.named_paths))
    with BackgroundWriter() as writer:
        share = _run(plan, numbers, manifest, writer, watches, progress or (lambda _: None), lambda: False)
    return _finish_run(plan, manifest, [share])


def run_in_worker_processes(
    plan: RunPlan, manifest: Manifest, jobs: int, progress: Callable[[Progress], None] | None
) -> RunResult:
    """Do it in several processes, which take turns at the batches."""
    total = len(plan.inputs.named_paths)
    led, begun = _run_leading_batches(plan, manifest)
    if begun == total or any(share.error is not None or share.interrupted for share in led):
        return _finish_run(plan, manifest, led)
    parts = [manifest.for_worker() for _ in range(jobs)]
    heard: dict[int, Progress] = {}

    def hear(number: int, said: Progress) -> None:
        heard[number] = said
        if progress:
            done, failed = (sum(getattr(each, name) for each in heard.values()) for name in ("done", "failed"))
            progress(Progress(done, failed, total, said.image))

    def work(number: int, tell: Callable[[Any], None], stop: StopSignal) -> _WorkerResult:
        mine = [image for image in range(begun, total) if image // plan.batch_size % jobs == number]
        # One thread for everything: the other cores have jobs of their own.
        with BackgroundWriter(thread=False) as writer:
            share = _run(plan, mine, parts[number], writer, (), tell, stop.is_set)
        share.state = parts[number].worker_state()
        if share.error is not None:
            stop.set()
            share.error = picklable_error(share.error)
        return share

    shares: list[_WorkerResult] = []
    try:
        run_workers(jobs, work, hear, shares.append)
    except Exception as error:  # noqa: BLE001 - raised once the manifest is written
        shares.append(_WorkerResult(0, [], {}, {}, interrupted=True, error=error))
    for share in shares:
        if share.state:
            manifest.add_worker_state(share.state)
    interrupted = len(shares) < jobs
    return _finish_run(
        plan, manifest, [*led, *shares, _WorkerResult(0, [], {}, {}, interrupted=interrupted, error=None)]
    )


def _run_leading_batches(plan: RunPlan, manifest: Manifest) -> tuple[list[_WorkerResult], int]:
    """Run the first batch that can be run, where a sink decides something by it for all images; and how many inputs.

    Each process then begins with what was decided (`OutputFolder.shared`).
    """
    shares: list[_WorkerResult] = []
    noted = plan.inputs.notes
    begun, total, threads = 0, len(plan.inputs.named_paths), torch.get_num_threads()
    if not any(getattr(sink, "decides_on_first_image", False) for sink in plan.sinks):
        return shares, begun
    torch.set_num_threads(1)  # of several, a fork would wait for the others
    try:
        while begun < total and not any(share.images or share.error or share.interrupted for share in shares):
            batch = range(begun, min(begun + plan.batch_size, total))
            plan.inputs.failures, plan.inputs.notes = [], noted
            noted = {}  # what was noticed before is said once
            with BackgroundWriter(thread=False) as writer:
                shares.append(_run(plan, batch, manifest, writer, (), lambda _: None, lambda: False))
            begun = batch.stop
    finally:
        torch.set_num_threads(threads)
        plan.inputs.failures, plan.inputs.notes = [], noted
    return shares, begun


def _run(
    plan: RunPlan,
    numbers: Iterable[int],
    manifest: Manifest,
    writer: BackgroundWriter,
    watches: Sequence[Write],
    tell: Callable[[Progress], None],
    stopped: Callable[[], bool],
) -> _WorkerResult:
    """Run some of the inputs. An error is part of what is returned: what was finished before it stays."""
    failed = plan.inputs.failures
    interrupted, error = False, None
    run = BatchRunner(plan.opened, manifest, plan.recipe, plan.span, plan.colors, plan.subject, writer)
    try:
        with run.sinks(plan.sinks, plan.folder), Prefetcher(plan.inputs.read(numbers), plan.batch_size) as items:
            run.now += watches
            begun = 0
            try:
                for batch in group_into_batches(items, plan.batch_size, [other.name for other in plan.inputs.others]):
                    reason = explain_size_mismatch(plan.original, batch.values) or run.batch(
                        batch, plan.seed, plan.device, output=plan.output
                    )
                    if reason:
                        failed += [Failure(str(item.path), reason, item.number) for item in batch.inputs]
                        continue
                    begun += len(batch.inputs)
                    tell(Progress(begun, len(failed), len(plan.inputs.named_paths), batch.inputs[-1].name))
                    if stopped():
                        interrupted = True
                        break
            except KeyboardInterrupt:
                interrupted = True
                run.drop()
    except Exception as caught:  # noqa: BLE001 - raised once the manifest is written
        error = caught
    return _WorkerResult(run.done, failed, plan.inputs.notes, run.summaries, interrupted, error, overview=run.overview)


def _finish_run(plan: RunPlan, manifest: Manifest, shares: Sequence[_WorkerResult]) -> RunResult:
    """Write the manifest of all shares. Raises the error of one of them, if there was one."""
    summaries: dict[str, OperationSummary] = {}
    notes: Notes = {}
    for share in shares:
        merge_summaries(summaries, share.summaries)
        merge_notes(notes, share.notes)
    if notes:
        manifest.head["notes"] = format_notes(notes)
    failed = sorted((failure for share in shares for failure in share.failed), key=lambda failure: failure.number)
    images = sum(share.images for share in shares)
    error = next((share.error for share in shares if share.error is not None), None)
    interrupted = error is not None or any(share.interrupted for share in shares)
    files = 0
    if has_finished_images(plan.workspace.path):  # a run that finished no image leaves the folder as it was
        try:
            files = manifest.write(summaries, failed, interrupted=interrupted, error=error)
            if failed or interrupted:
                plan.workspace.remove_unlisted_files()
        except OutputError:
            if error is None:
                raise
    if error is not None:
        raise error
    overview = next((share.overview for share in shares if share.overview is not None), None)
    return RunResult(images, files, tuple(failed), tuple(summaries.values()), notes, interrupted, overview)
