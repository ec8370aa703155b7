"""A job in a worker: images are read, run in batches, and written, one task after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from surgery.extraction.model_runner import ModelRunner
from surgery.extraction.reader_pool import read_ahead
from surgery.extraction.run_plan import BatchDone, TaskResult, TaskStarted
from surgery.extraction.sink_pipeline import SinkPipeline
from surgery.extraction.trial import current_trial
from surgery.extraction.writer_pool import WriterPool
from surgery.inputs import explain_size_mismatch, group_into_batches
from surgery.output import Failure, Manifest, check_space, merge_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.extraction.run_plan import RunPlan
    from surgery.inputs import Batch
    from surgery.interrupts import Interrupts
    from surgery.stages import Task, Write


class RunWorker:
    """A run's job as it is open in a worker. The model stays there from one task to the next."""

    def __init__(
        self,
        load: Callable[[], tuple[RunPlan, dict[str, Any]]],
        interrupts: Interrupts,
        *,
        writer_threads: int,
        watches: Sequence[Write] = (),
    ) -> None:
        """`load` returns the plan and the head of the manifest. `watches` are called with each activation.

        Ctrl-C is held in `interrupts` but while images run.
        """
        self._load = load
        self._interrupts = interrupts
        self._writer_threads = writer_threads
        self._watches = watches
        self._plan: RunPlan
        self._manifest: Manifest | None = None
        self._model: ModelRunner | None = None

    def run(self, task: Task, send: Callable[[Any], None], is_stopped: Callable[[], bool], /) -> None:
        """Do a task, as `surgery.stages.JobWorker` has it."""
        started = time.perf_counter()
        try:
            manifest = self._begin(task)
        except Exception as error:  # noqa: BLE001 - raised where the run was called
            send(TaskResult(error=error))
            return
        send(TaskStarted())
        with WriterPool(self._writer_threads) as writers:
            folder = self._plan.folder.for_background_thread()  # with the callbacks of this task's sinks alone
            pipeline = SinkPipeline(folder, manifest, writers)
            result = self._run_batches(task, pipeline, writers, send, is_stopped)
        result.images = pipeline.recorder.images
        result.run_files = manifest.take_run_files()
        result.shared = self._plan.folder.shared
        result.seconds = time.perf_counter() - started
        send(result)

    def close(self) -> None:
        """Close what is open in the output folder."""
        if self._manifest is not None:
            self._manifest.close()

    def _begin(self, task: Task) -> Manifest:
        """Load the job for the first task, and prepare for this one. Return the manifest that records it."""
        if self._manifest is None:
            self._plan, head = self._load()
            self._manifest = Manifest.for_worker(head, self._plan.workspace)
        plan = self._plan
        plan.workspace.begin(task.journal, task.images[0])
        self._manifest.record_in(task.journal)
        plan.folder.shared.update(task.shared)
        plan.inputs.failures, plan.inputs.notes = [], {}
        return self._manifest

    def _run_batches(
        self,
        task: Task,
        pipeline: SinkPipeline,
        writers: WriterPool,
        send: Callable[[Any], None],
        is_stopped: Callable[[], bool],
    ) -> TaskResult:
        """Run the images of a task. Return what was done, with the error that ended it.

        Nothing is raised, so that the images are recorded that were finished before an error or Ctrl-C, which is held
        when this returns.
        """
        plan, interrupts = self._plan, self._interrupts
        failures = plan.inputs.failures  # those of images that can't be read are added by `read`
        result = TaskResult(failures=failures, notes=plan.inputs.notes)
        try:
            interrupts.allow()
            model = self._open_model(pipeline)
            items = read_ahead(
                lambda number: plan.inputs.read([number]), task.images, plan.batch_size, plan.reader_threads
            )
            with pipeline.open(plan.sinks, self._watches), items as inputs:
                started = 0
                try:
                    for batch in group_into_batches(inputs, plan.batch_size, plan.inputs.lists, plan.finished):
                        if is_stopped():
                            result.interrupted = True
                            break
                        reason = explain_size_mismatch(plan.original, batch.main) or self._run_batch(
                            model, pipeline, batch, is_kept=not task.is_probe
                        )
                        interrupts.allow()
                        if reason:
                            failures += [Failure(str(item.path), reason, item.number) for item in batch.inputs]
                            for item in batch.inputs:
                                merge_notes(result.notes, item.notes)
                            continue
                        left = len(plan.numbers) - len(plan.finished) - len(batch.inputs)
                        if task.is_first and not started and left > 0 and not plan.force:
                            writers.drain()
                            left = plan.workspace.count_waiting(left, len(batch.inputs), pipeline.disk_bytes)
                            check_space(plan.folder.path, pipeline.disk_bytes, len(batch.inputs), left)
                        started += len(batch.inputs)
                        send(BatchDone(started, len(failures), batch.inputs[-1].name))
                    interrupts.hold()  # only the files of the last images are missing
                except KeyboardInterrupt:
                    interrupts.hold()
                    result.interrupted = True
                    pipeline.drop_unfinished()
        except KeyboardInterrupt:
            interrupts.hold()
            result.interrupted = True
        except Exception as error:  # noqa: BLE001 - raised where the run was called
            interrupts.hold()
            if interrupts.received:  # which a library has turned into this error
                result.interrupted = True
            else:
                result.error = error
        return result

    def _open_model(self, pipeline: SinkPipeline) -> ModelRunner:
        """Return what runs the batches; in a trial that doesn't run the model, what rehearses them."""
        if self._model is not None:
            self._model.consume = pipeline.write
            return self._model
        trial = current_trial()
        if trial is None or trial.runs_model:
            self._model = ModelRunner(self._plan, pipeline.write)
            return self._model
        from surgery.extraction.rehearsal import RehearsedRunner  # its imports take a while

        runner = RehearsedRunner(self._plan, pipeline.write)
        runner.trial = trial
        return runner

    def _run_batch(self, model: ModelRunner, pipeline: SinkPipeline, batch: Batch, *, is_kept: bool) -> str | None:
        """Run one batch. Return why the model can't take it, or None if its activations are on their way to files.

        Without `is_kept` its files are removed.
        """
        pipeline.start_batch(batch.inputs)
        reason = model.run(batch)
        if reason is not None or not is_kept:
            pipeline.reject_batch()
            return reason
        if model.has_checked_output and self._manifest is not None:
            self._manifest.record_check(without_edits=model.checks_without_edits)
        pipeline.finish_batch(batch.inputs, batch.sizes, model.not_reached)
        return None
