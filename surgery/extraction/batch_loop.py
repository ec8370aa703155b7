"""One process's share of a run: its images are read, run in batches, and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.extraction.model_runner import ModelRunner
from surgery.extraction.reader_pool import read_ahead
from surgery.extraction.run_plan import ShareResult
from surgery.extraction.sink_pipeline import SinkPipeline
from surgery.extraction.trial import current_trial
from surgery.inputs import explain_size_mismatch, group_into_batches
from surgery.output import Failure, Progress, check_space, merge_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from surgery.extraction.run_plan import RunPlan
    from surgery.extraction.writer_pool import WriterPool
    from surgery.inputs import Batch
    from surgery.output import Manifest
    from surgery.stages import Write


def run_share(
    plan: RunPlan,
    image_numbers: Iterable[int],
    manifest: Manifest,
    writers: WriterPool,
    *,
    watches: Sequence[Write] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> ShareResult:
    """Run the images of these numbers. Return what was done, with the error that ended it.

    Nothing is raised, so that the caller can record the images that were finished before an error or Ctrl-C, which is
    held when this returns. `watches` are called with each activation, `on_progress` after each batch. If `is_stopped`
    returns true after a batch, the rest is left.
    """
    failures = plan.inputs.failures  # those of images that can't be read are added by `read`
    earlier = len(plan.finished)
    pipeline = SinkPipeline(plan.folder, manifest, writers)
    share = ShareResult(failures=failures, notes=plan.inputs.notes)
    try:
        plan.interrupts.allow()
        model = _make_runner(plan, pipeline)
        items = read_ahead(
            lambda number: plan.inputs.read([number]), image_numbers, plan.batch_size, plan.reader_threads
        )
        with pipeline.open(plan.sinks, watches), items as inputs:
            started = 0
            try:
                for batch in group_into_batches(inputs, plan.batch_size, plan.inputs.lists, plan.finished):
                    reason = explain_size_mismatch(plan.original, batch.main) or _run_batch(
                        model, pipeline, manifest, batch
                    )
                    plan.interrupts.allow()
                    if reason:
                        failures += [Failure(str(item.path), reason, item.number) for item in batch.inputs]
                        for item in batch.inputs:
                            merge_notes(share.notes, item.notes)
                        continue
                    left = len(plan.numbers) - earlier - len(batch.inputs)
                    if not started and left > 0 and not plan.force:
                        writers.drain()
                        left = plan.workspace.count_waiting(left, len(batch.inputs), pipeline.disk_bytes)
                        check_space(plan.folder.path, pipeline.disk_bytes, len(batch.inputs), left)
                    started += len(batch.inputs)
                    total = len(plan.numbers)
                    on_progress(Progress(earlier + started, len(failures), total, batch.inputs[-1].name))
                    if is_stopped():
                        share.interrupted = True
                        break
                plan.interrupts.hold()  # only the files of the last images are missing
            except KeyboardInterrupt:
                plan.interrupts.hold()
                share.interrupted = True
                pipeline.drop_unfinished()
    except KeyboardInterrupt:
        plan.interrupts.hold()
        share.interrupted = True
    except Exception as error:  # noqa: BLE001 - raised by the caller
        plan.interrupts.hold()
        if plan.interrupts.received:  # which a library has turned into this error
            share.interrupted = True
        else:
            share.error = error
    share.images = pipeline.recorder.images
    return share


def _make_runner(plan: RunPlan, pipeline: SinkPipeline) -> ModelRunner:
    """Return what runs the batches; in a trial that doesn't run the model, what rehearses them."""
    trial = current_trial()
    if trial is None or trial.runs_model:
        return ModelRunner(plan, pipeline.write)
    from surgery.extraction.rehearsal import RehearsedRunner  # its imports take a while

    runner = RehearsedRunner(plan, pipeline.write)
    runner.trial = trial
    return runner


def _run_batch(model: ModelRunner, pipeline: SinkPipeline, manifest: Manifest, batch: Batch) -> str | None:
    """Run one batch. Return why the model can't take it, or None if its activations are on their way to the files."""
    pipeline.start_batch(batch.inputs)
    reason = model.run(batch)
    if reason is not None:
        pipeline.reject_batch()
        return reason
    if model.has_checked_output:
        manifest.record_check(without_edits=model.checks_without_edits)
    pipeline.finish_batch(batch.inputs, batch.sizes, model.not_reached)
    return None
