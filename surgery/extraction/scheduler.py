"""Drives the workers of an engine: hands out tasks, collects results, and tries again what lost workers leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from surgery.errors import OutputError, SurgeryError, describe_os_error
from surgery.extraction.run_plan import BatchDone, TaskResult, TaskStarted
from surgery.output import Failure, Progress, merge_notes, read_journal
from surgery.stages import Lost, Task
from surgery.text import format_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from surgery.extraction.run_plan import RunPlan
    from surgery.extraction.task_queue import Share, TaskQueue
    from surgery.interrupts import Interrupts
    from surgery.output import Notes
    from surgery.stages import Workers

INTERRUPT_CHECK_INTERVAL = 0.2
"""Seconds between two checks whether Ctrl-C was pressed while it is held."""
MAX_LOST_IMAGES = 10
"""A run ends in which workers are lost with so many images, and none is finished."""


@dataclass(slots=True)
class _Slot:
    """A worker, seen from here. One that is lost is replaced by another in the same slot."""

    share: Share | None = None
    """What its task has; None if it has none."""
    journal: str = ""
    last: int = -1
    """The last image that was handed out for this journal."""
    is_started: bool = False
    """Whether it has begun a task, so that it can open the job."""
    progress: BatchDone | None = None
    """Of its task."""
    seconds: float | None = None
    """What a batch took it."""


@dataclass(slots=True)
class RunResult:
    """What the workers of a run did together."""

    images: int = 0
    failures: list[Failure] = field(default_factory=list)
    notes: Notes = field(default_factory=dict)
    run_files: dict[str, str | None] = field(default_factory=dict)
    error: BaseException | None = None
    interrupted: bool = False
    has_lost: bool = False
    """Whether a worker was lost, so that files may be left of what it had begun."""


class Scheduler:
    """Has the workers of an engine do what is in a queue."""

    def __init__(
        self,
        plan: RunPlan,
        queue: TaskQueue,
        workers: Workers,
        interrupts: Interrupts,
        on_progress: Callable[[Progress], None],
        *,
        first_decides: bool,
    ) -> None:
        """With `first_decides`, sinks decide something from the first image that is finished, which all others need."""
        self._plan = plan
        self._queue = queue
        self._workers = workers
        self._interrupts = interrupts
        self._on_progress = on_progress
        self._is_deciding = first_decides
        self._result = RunResult()
        self._slots: dict[int, _Slot] = {}
        self._run = uuid4().hex[:8]
        self._journals = 0
        self._is_first = True
        self._is_stopped = False
        self._failed_starts = 0
        self._last_reason = ""
        """What happened to the worker that was lost last."""

    def run(self) -> RunResult:
        """Return what was done when the queue is empty, after an error, or after Ctrl-C. Nothing is raised."""
        try:
            while True:
                if not self._is_stopped:
                    self._hand_out()
                if not any(slot.share for slot in self._slots.values()):
                    self._check_workers()
                    break
                self._workers.receive(self._take, INTERRUPT_CHECK_INTERVAL)
                if self._interrupts.is_waiting or self._interrupts.received:
                    self._stop()
                if self._interrupts.is_urgent:
                    break
        except Exception as error:  # noqa: BLE001 - raised when the manifest is written
            self._fail(error)
        left = not self._queue.is_empty or any(slot.share for slot in self._slots.values())
        self._result.interrupted |= left
        return self._result

    def _hand_out(self) -> None:
        """Give each idle worker a task."""
        for number in range(self._workers.count):
            slot = self._slots.setdefault(number, _Slot())
            if slot.share is not None:
                continue
            if self._is_deciding and any(each.share for each in self._slots.values()):
                return
            share = self._queue.take(self._workers.count, slot.seconds)
            if share is None:
                return
            images = share.images
            if not slot.journal or images[0] <= slot.last:  # a journal has batches in their order
                self._journals += 1
                slot.journal = f"{self._run}_{self._journals}"
            slot.share, slot.last = share, images[-1]
            shared = dict(self._plan.folder.shared)
            self._workers.submit(number, Task(images, slot.journal, shared, self._is_first, share.is_probe))
            self._is_first = False

    def _take(self, number: int, message: Any) -> None:
        """Take a message of a worker. Raises SurgeryError for what breaks the rules of an engine."""
        if number not in self._slots and not 0 <= number < self._workers.count:
            workers = format_count(self._workers.count, "worker")
            raise SurgeryError(f"the engine delivered a message of worker {number!r:.60}, and has {workers}")
        slot = self._slots.setdefault(number, _Slot())
        if isinstance(message, TaskStarted):
            slot.is_started = True
            self._failed_starts = 0
        elif isinstance(message, BatchDone):
            if slot.share is not None and not slot.share.is_probe:
                slot.progress = message
                self._report(message.image)
        elif isinstance(message, TaskResult):
            self._finish(slot, message)
        elif isinstance(message, Lost):
            self._lose(slot, message.reason)
        else:
            raise SurgeryError(f"the engine delivered what no worker sends, {message!r:.60}")

    def _check_workers(self) -> None:
        """Raise SurgeryError if the engine has no workers for what is left."""
        if not (self._is_stopped or self._queue.is_empty):
            raise SurgeryError(f"the engine has {self._workers.count} workers, and needs one")

    def _finish(self, slot: _Slot, result: TaskResult) -> None:
        share, slot.share, slot.progress = slot.share, None, None
        if share is None:
            return
        if result.error is not None:
            self._fail(result.error)
        if result.interrupted:
            self._result.interrupted = True
            self._stop()
        merge_notes(self._result.notes, result.notes)
        self._result.run_files |= result.run_files
        if share.is_probe:
            self._queue.finish(share)
            self._fail_lost_images()
            return
        slot.seconds = result.seconds / len(share.batches)
        self._result.images += result.images
        self._result.failures += result.failures
        if self._is_deciding and result.images:
            self._is_deciding = False
            self._plan.folder.shared.update(result.shared)

    def _lose(self, slot: _Slot, reason: str) -> None:
        """Take back what a lost worker had. Another is in its place."""
        share, journal, is_started = slot.share, slot.journal, slot.is_started
        slot.share, slot.progress, slot.journal, slot.is_started = None, None, "", False
        self._result.has_lost = True
        if not is_started:
            self._failed_starts += 1
            if share is not None:
                self._queue.give_back(share)
            if self._failed_starts > 2 * self._workers.count + 1:
                self._fail(SurgeryError(f"no worker can be started: the last one {reason}"))
            return
        if share is None:
            return
        try:
            finished = read_journal(self._plan.workspace.path, journal)
            left = [image for image in share.images if image not in finished]
            self._plan.workspace.remove_unfinished_batches(left)
        except OSError as error:
            self._fail(OutputError(f"can't read {self._plan.workspace.path}: {describe_os_error(error)}"))
            return
        if not share.is_probe:
            self._result.images += len(share.images) - len(left)
        self._queue.lose(share, finished)
        self._last_reason = reason
        self._fail_lost_images()

    def _fail_lost_images(self) -> None:
        """Report the images with which workers were lost again and again."""
        if not self._queue.lost:
            return
        for number, count in sorted(self._queue.lost.items()):
            workers = format_count(count, "worker")
            reason = f"{workers} ran it and did not survive: the last one {self._last_reason}"
            self._result.failures.append(Failure(str(self._plan.inputs.paths[number]), reason, number))
        self._queue.lost.clear()
        if len(self._result.failures) >= MAX_LOST_IMAGES and not self._result.images:
            self._fail(SurgeryError(f"no worker survives an image; the last one {self._last_reason}"))

    def _report(self, image: str) -> None:
        """Tell the caller how far all workers are together."""
        running = [slot.progress for slot in self._slots.values() if slot.progress is not None]
        done = len(self._plan.finished) + self._result.images + sum(each.images for each in running)
        failed = len(self._result.failures) + sum(each.failed for each in running)
        try:
            self._on_progress(Progress(done, failed, len(self._plan.numbers), image))
        except KeyboardInterrupt:
            self._result.interrupted = True
            self._stop()
        except Exception as error:  # noqa: BLE001 - raised when the manifest is written
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the run with an error, if it is the first."""
        self._result.error = self._result.error or error
        self._stop()

    def _stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            self._workers.stop()
