"""A run's inputs, one batch after the other: in this process, or shared among several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from surgery.errors import OutputError
from surgery.extraction.pipeline import Ahead, Behind
from surgery.extraction.processes import run_jobs, sendable
from surgery.extraction.runner import Run
from surgery.inputs import Notes, explain_size_mismatch, format_notes, group_into_batches, merge_notes
from surgery.output import Failure, Finding, Progress, any_records, merge_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import fx, nn

    from surgery.extraction.processes import Stop
    from surgery.inputs import Inputs
    from surgery.output import Manifest, OutputFolder, Workspace
    from surgery.stages import Limits, Recipe, Sink, Write


@dataclass(frozen=True, slots=True, eq=False)
class Job:
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
class Done:
    """What was done."""

    images: int
    files: int
    failed: tuple[Failure, ...]
    findings: tuple[Finding, ...]
    notes: Notes
    interrupted: bool
    overview: str | None = None
    """The first file that is of a whole image."""


@dataclass(slots=True)
class _Share:
    """What came of one process's share of the inputs."""

    images: int
    failed: list[Failure]
    notes: Notes
    findings: dict[str, Finding]
    interrupted: bool
    error: BaseException | None
    state: tuple[Any, ...] = ()
    """Of its part of the manifest."""
    overview: str | None = None
    """The first file that is of a whole image."""


def run_alone(
    job: Job, manifest: Manifest, watches: Sequence[Write], progress: Callable[[Progress], None] | None
) -> Done:
    """Do all of it in this process, with one thread that reads ahead and one that writes behind."""
    numbers = range(len(job.inputs.named_paths))
    with Behind() as behind:
        share = _run(job, numbers, manifest, behind, watches, progress or (lambda _: None), lambda: False)
    return _put_together(job, manifest, [share])


def run_shared(job: Job, manifest: Manifest, jobs: int, progress: Callable[[Progress], None] | None) -> Done:
    """Do it in several processes, which take turns at the batches."""
    total = len(job.inputs.named_paths)
    led, begun = _lead(job, manifest)
    if begun == total or any(share.error is not None or share.interrupted for share in led):
        return _put_together(job, manifest, led)
    parts = [manifest.part() for _ in range(jobs)]
    heard: dict[int, Progress] = {}

    def hear(number: int, said: Progress) -> None:
        heard[number] = said
        if progress:
            done, failed = (sum(getattr(each, name) for each in heard.values()) for name in ("done", "failed"))
            progress(Progress(done, failed, total, said.image))

    def work(number: int, tell: Callable[[Any], None], stop: Stop) -> _Share:
        mine = [image for image in range(begun, total) if image // job.batch_size % jobs == number]
        # One thread for everything: the other cores have jobs of their own.
        with Behind(thread=False) as behind:
            share = _run(job, mine, parts[number], behind, (), tell, stop.is_set)
        share.state = parts[number].state()
        if share.error is not None:
            stop.set()
            share.error = sendable(share.error)
        return share

    shares: list[_Share] = []
    try:
        run_jobs(jobs, work, hear, shares.append)
    except Exception as error:  # noqa: BLE001 - raised once the manifest is written
        shares.append(_Share(0, [], {}, {}, interrupted=True, error=error))
    for share in shares:
        if share.state:
            manifest.take(share.state)
    interrupted = len(shares) < jobs
    return _put_together(job, manifest, [*led, *shares, _Share(0, [], {}, {}, interrupted=interrupted, error=None)])


def _lead(job: Job, manifest: Manifest) -> tuple[list[_Share], int]:
    """Run the first batch that can be run, where a sink decides something by it for all images; and how many inputs.

    Each process then begins with what was decided (`OutputFolder.shared`).
    """
    shares: list[_Share] = []
    noted = job.inputs.notes
    begun, total, threads = 0, len(job.inputs.named_paths), torch.get_num_threads()
    if not any(getattr(sink, "leads", False) for sink in job.sinks):
        return shares, begun
    torch.set_num_threads(1)  # of several, a fork would wait for the others
    try:
        while begun < total and not any(share.images or share.error or share.interrupted for share in shares):
            batch = range(begun, min(begun + job.batch_size, total))
            job.inputs.failures, job.inputs.notes = [], noted
            noted = {}  # what was noticed before is said once
            with Behind(thread=False) as behind:
                shares.append(_run(job, batch, manifest, behind, (), lambda _: None, lambda: False))
            begun = batch.stop
    finally:
        torch.set_num_threads(threads)
        job.inputs.failures, job.inputs.notes = [], noted
    return shares, begun


def _run(
    job: Job,
    numbers: Iterable[int],
    manifest: Manifest,
    behind: Behind,
    watches: Sequence[Write],
    tell: Callable[[Progress], None],
    stopped: Callable[[], bool],
) -> _Share:
    """Run some of the inputs. An error is part of what is returned: what was finished before it stays."""
    failed = job.inputs.failures
    interrupted, error = False, None
    run = Run(job.opened, manifest, job.recipe, job.span, job.colors, job.subject, behind)
    try:
        with run.sinks(job.sinks, job.folder), Ahead(job.inputs.read(numbers), job.batch_size) as items:
            run.now += watches
            begun = 0
            try:
                for batch in group_into_batches(items, job.batch_size, [other.name for other in job.inputs.others]):
                    reason = explain_size_mismatch(job.original, batch.values) or run.batch(
                        batch, job.seed, job.device, output=job.output
                    )
                    if reason:
                        failed += [Failure(str(item.path), reason, item.number) for item in batch.inputs]
                        continue
                    begun += len(batch.inputs)
                    tell(Progress(begun, len(failed), len(job.inputs.named_paths), batch.inputs[-1].name))
                    if stopped():
                        interrupted = True
                        break
            except KeyboardInterrupt:
                interrupted = True
                run.drop()
    except Exception as caught:  # noqa: BLE001 - raised once the manifest is written
        error = caught
    return _Share(run.done, failed, job.inputs.notes, run.findings, interrupted, error, overview=run.overview)


def _put_together(job: Job, manifest: Manifest, shares: Sequence[_Share]) -> Done:
    """Write the manifest of all shares. Raises the error of one of them, if there was one."""
    findings: dict[str, Finding] = {}
    notes: Notes = {}
    for share in shares:
        merge_findings(findings, share.findings)
        merge_notes(notes, share.notes)
    if notes:
        manifest.head["notes"] = format_notes(notes)
    failed = sorted((failure for share in shares for failure in share.failed), key=lambda failure: failure.number)
    images = sum(share.images for share in shares)
    error = next((share.error for share in shares if share.error is not None), None)
    interrupted = error is not None or any(share.interrupted for share in shares)
    files = 0
    if any_records(job.workspace.path):  # a run that finished no image leaves the folder as it was
        try:
            files = manifest.write(findings, failed, interrupted=interrupted, error=error)
            if failed or interrupted:
                job.workspace.sweep()
        except OutputError:
            if error is None:
                raise
    if error is not None:
        raise error
    overview = next((share.overview for share in shares if share.overview is not None), None)
    return Done(images, files, tuple(failed), tuple(findings.values()), notes, interrupted, overview)
