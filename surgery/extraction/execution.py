"""Runs all images by an engine, then writes the manifest."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from operator import attrgetter
from typing import TYPE_CHECKING

from surgery.errors import OutputError, PluginError, SurgeryError, first_line
from surgery.extraction.first_images import decide_as_first_shard, one_thread
from surgery.extraction.run_job import RunJob
from surgery.extraction.run_plan import TotalResult
from surgery.extraction.scheduler import RunResult, Scheduler
from surgery.extraction.task_queue import TaskQueue
from surgery.extraction.trial import choosing_images
from surgery.output import Tally, has_finished_images, merge_notes
from surgery.stages import find_loaders
from surgery.text import describe_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from surgery.extraction.run_plan import RunPlan
    from surgery.interrupts import Interrupts
    from surgery.output import Manifest, Progress
    from surgery.stages import Engine, Job, Workers, Write


def run_images(
    plan: RunPlan,
    manifest: Manifest,
    engine: Engine,
    interrupts: Interrupts,
    watches: Sequence[Write] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> TotalResult:
    """Run all images that are left by an engine, and write the manifest. Return what all workers did together.

    `watches` are called with each activation, in an engine of this process. Raises the error that ended the run.
    """
    interrupts.hold()  # what workers send must be read to its end; they are asked to end instead
    result = RunResult()
    is_whole = getattr(engine, "in_process", False)
    if numbers := plan.unfinished_numbers():
        with nullcontext() if is_whole else one_thread():
            decide_as_first_shard(plan, manifest, interrupts)
        with choosing_images(numbers) as chosen:
            queue = TaskQueue(chosen, plan.batch_size, is_whole=is_whole)
            job = RunJob(plan, manifest.head, interrupts, queue.batches, count_writers(plan, engine), watches)
            with _opened(engine, job) as workers:
                scheduler = Scheduler(
                    plan,
                    queue,
                    workers,
                    interrupts,
                    on_progress or (lambda _: None),
                    first_decides=not (is_whole or plan.finished)
                    and any(getattr(sink, "decides_on_first_image", False) for sink in plan.sinks),
                )
                result = scheduler.run()
    return _finish_run(plan, manifest, result, has_run=bool(numbers))


@contextmanager
def _opened(engine: Engine, job: Job) -> Iterator[Workers]:
    """Yield the workers of an engine. Raises PluginError for whatever it raises when it starts."""
    with ExitStack() as stack:
        try:
            workers = stack.enter_context(engine(job))
        except SurgeryError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise PluginError(f"the engine {describe_stage(engine)} can't start: {reason}") from error
        yield workers


def count_writers(plan: RunPlan, engine: Engine) -> int:
    """Return how many threads of a worker draw and write.

    On the CPU, other workers have the other cores, so that threads would only be in their way.
    """
    return plan.writer_threads if getattr(engine, "in_process", False) or plan.device.type != "cpu" else 0


def _finish_run(plan: RunPlan, manifest: Manifest, result: RunResult, *, has_run: bool) -> TotalResult:
    """Write the manifest of all images and return what is in it. Raise the error that ended the run."""
    notes = dict(plan.notes) if plan.shard is None or plan.shard.number == 1 else {}  # which all shards have
    merge_notes(notes, result.notes)
    failures = sorted(result.failures, key=attrgetter("number"))
    interrupted = result.interrupted or result.error is not None
    manifest.add_run_files(result.run_files)
    tally = Tally()
    if not has_run and manifest.is_complete:  # nothing was left to do
        tally = manifest.tally()
    elif plan.finished or has_finished_images(plan.workspace.path) or (plan.shard is not None and not interrupted):
        # otherwise the folder stays as it was; that of a shard tells that it has no image that can be run
        try:
            loaders = find_loaders(plan.sinks)
            tally = manifest.write(failures, interrupted=interrupted, error=result.error, notes=notes, loaders=loaders)
            if failures or interrupted or result.has_lost:
                plan.workspace.remove_unfinished_files(tally.finished)
        except OutputError:
            if result.error is None:
                raise
    if result.error is not None:
        raise result.error
    merge_notes(notes, tally.notes)
    return TotalResult(tally, tuple(failures), notes, interrupted)
