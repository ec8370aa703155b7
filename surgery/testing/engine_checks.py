"""Checks of engines: what their workers do, what becomes of lost ones, and whether a run's files are the same."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.builtin import Local
from surgery.extraction import extract
from surgery.stages import Lost, Task
from surgery.testing.engine_samples import (
    COUNT,
    DIE,
    HEARTBEAT,
    WAIT,
    KillingReader,
    SampleJob,
    SampleModel,
    this_process,
)
from surgery.testing.violations import Violation, describe_exception, detect_state_changes
from surgery.text import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surgery.stages import Engine, Workers

PATIENCE = 120.0
"""Seconds in which a worker has to start and to do a task."""
IMAGES = 7


@dataclass(slots=True)
class _Inbox:
    """What was delivered, by worker."""

    messages: dict[int, list[Any]] = field(default_factory=dict)

    def __call__(self, worker: int, message: Any) -> None:
        self.messages.setdefault(worker, []).append(message)

    def wait(self, workers: Workers, is_there: Callable[[], bool]) -> bool:
        """Receive until something is there. Return whether it came."""
        end = time.monotonic() + PATIENCE
        while not is_there() and time.monotonic() < end:
            workers.receive(self, 0.2)
        return is_there()

    def wait_for(self, workers: Workers, worker: int, count: int) -> bool:
        """Receive until so many messages of a worker are there. Return whether they came."""
        return self.wait(workers, lambda: len(self.messages.get(worker, ())) >= count)

    def last(self, worker: int) -> Any:
        """Return the last message of a worker; None if there is none."""
        return self.messages.get(worker, [None])[-1]


def engine_violations(engine: Engine, on_progress: Callable[[str], object] = lambda _: None) -> Iterator[Violation]:
    """Yield a violation for each message that an engine loses, each worker that it does not replace or end.

    `on_progress` is called before each step with a description of it.
    """
    with TemporaryDirectory() as folder, detect_state_changes("a run") as changes:
        yield from _check_all(engine, Path(folder), on_progress)
    yield from changes


def _check_all(engine: Engine, folder: Path, on_progress: Callable[[str], object]) -> Iterator[Violation]:
    job = SampleJob(str(folder), this_process())
    on_progress("messages")
    try:
        violations, is_here = _check_messages(engine, job)
        yield from violations
        if violations:
            return
        if not is_here:  # this process can't be killed, and waits for what it does itself
            on_progress("a worker that is killed")
            yield from _check_loss(engine, job)
            on_progress("a stop")
            yield from _check_stop(engine, job)
            on_progress("the end of workers that are busy")
            yield from _check_end(engine, job)
        on_progress("a run")
        yield from _check_runs(engine, folder, kills=not is_here)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield Violation(describe_exception(error))


def _task(command: str, *images: int) -> Task:
    return Task(images, command, {})


def _check_messages(engine: Engine, job: SampleJob) -> tuple[list[Violation], bool]:
    """Check that each worker does two tasks, and that what it sends is delivered. Return whether they are here too."""
    inbox = _Inbox()
    expected: dict[int, list[Any]] = {}
    processes = set()
    with engine(job) as workers:
        count = workers.count
        if count < 1:
            return [Violation(f"has {count} workers, and needs one")], True
        for turn in range(2):
            for worker in range(count):
                images = (10 * worker + turn, 10 * worker + turn + 5)
                workers.submit(worker, _task(COUNT, *images))
                expected.setdefault(worker, []).extend([*(("image", image) for image in images), ("done", False)])
            for worker in range(count):
                if not inbox.wait_for(workers, worker, 4 * (turn + 1)):
                    return [Violation(f"does not deliver the result of a task in {PATIENCE:g} s")], True
        started = time.monotonic()
        workers.receive(inbox, 0.3)
        if (waited := time.monotonic() - started) > 3:
            return [Violation(f"waits {waited:.1f} s for messages, where it may wait 0.3")], True
    for worker, messages in inbox.messages.items():
        processes |= {message[1] for message in messages if message[0] == "started"}
        if [message for message in messages if message[0] != "started"] != expected.get(worker):
            return [Violation("delivers other messages than its workers send, or in another order")], True
    return [], this_process() in processes


def _check_loss(engine: Engine, job: SampleJob) -> Iterator[Violation]:
    """Check that a worker that is killed is told of once, after its messages, and that another takes its place."""
    inbox = _Inbox()
    with engine(job) as workers:
        last = workers.count - 1
        workers.submit(last, _task(DIE))
        if last:
            workers.submit(0, _task(COUNT, 1))
        if not inbox.wait(workers, lambda: isinstance(inbox.last(last), Lost)):
            yield Violation(f"does not tell in {PATIENCE:g} s that a worker was killed")
            return
        lost = inbox.messages[last]
        if [type(message) for message in lost] != [tuple, Lost]:
            yield Violation("delivers more or less than the messages of a worker that was killed, and Lost once")
        elif not (isinstance(lost[1].reason, str) and lost[1].reason.strip()):
            yield Violation("gives no reason for a lost worker")
        workers.submit(last, _task(COUNT, 2))
        if not inbox.wait(workers, lambda: inbox.last(last) == ("done", False)):
            yield Violation("has no other worker in the place of one that was killed")
        elif any(isinstance(message, Lost) for message in inbox.messages[last][2:]):
            yield Violation("tells more than once that a worker is lost")
        if last and not inbox.wait(workers, lambda: inbox.last(0) == ("done", False)):
            yield Violation("loses the task of a worker when another is killed")


def _check_stop(engine: Engine, job: SampleJob) -> Iterator[Violation]:
    """Check that messages come while a task goes on, and that all workers hear that they are to stop."""
    inbox = _Inbox()
    with engine(job) as workers:
        workers.submit(0, _task(WAIT, 1))
        if not inbox.wait(workers, lambda: ("image", 1) in inbox.messages.get(0, ())) or inbox.last(0)[0] == "done":
            yield Violation("delivers what a task sends only when it has ended")
            return
        workers.stop()
        if not inbox.wait(workers, lambda: inbox.last(0)[0] == "done") or inbox.last(0) != ("done", True):
            yield Violation("does not let a task know that it is to stop")


def _check_end(engine: Engine, job: SampleJob) -> Iterator[Violation]:
    """Check that workers have ended after the block, whatever they did."""
    inbox = _Inbox()
    with engine(job) as workers:
        workers.submit(0, _task(WAIT, 1))
        inbox.wait(workers, lambda: ("image", 1) in inbox.messages.get(0, ()))
        started = time.monotonic()
    if (waited := time.monotonic() - started) > 15:
        yield Violation(f"takes {waited:.0f} s to end a worker that is busy")
    beats = Path(job.folder) / "beats"
    before = beats.stat().st_size if beats.exists() else 0
    time.sleep(10 * HEARTBEAT)
    if (beats.stat().st_size if beats.exists() else 0) != before:
        yield Violation("leaves workers that go on after the block has ended")


def _check_runs(engine: Engine, folder: Path, *, kills: bool) -> Iterator[Violation]:
    """Check that runs have the files of a run in this process, whatever happens to workers."""
    inputs = folder / "inputs"
    inputs.mkdir()
    for number in range(IMAGES):
        values = np.random.default_rng(number).integers(-8, 8, (1, 1, 4, 5)).astype(np.float32)
        np.save(inputs / f"{number}.npy", values)
    here = this_process()
    readers = {"a run": KillingReader(here)}
    if kills:
        readers["a run in which a worker is killed"] = KillingReader(here, once=("2.npy",))
        readers["a run with an image that kills workers"] = KillingReader(here, deadly=("3.npy",))
    for number, (title, reader) in enumerate(readers.items()):
        found, expected = (
            _run(inputs, folder / f"{number}-{name}", each, reader)
            for name, each in (("own", engine), ("local", Local()))
        )
        names = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        if names:
            verb = "differs from" if names[0] in found and names[0] in expected else "is not among the files of"
            yield Violation(f"{names[0]} {verb} that of a run in this process".replace("files of that", "files"), title)


def _run(inputs: Path, out: Path, engine: Engine, reader: KillingReader) -> dict[str, object]:
    """Return the files of a run, and what its report says; reasons of failures are left out."""
    reported: list[int] = []
    files = sorted(inputs.glob("*.npy"))
    report = extract(
        SampleModel(),
        files,
        out=out,
        sinks=("npz", "png"),
        engine=engine,
        reader=reader,
        batch_size=2,
        mode="train",
        progress=lambda progress: reported.append(progress.done),
    )
    found: dict[str, object] = {
        path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    manifest = json.loads((out / MANIFEST_FILE).read_text(encoding="utf-8"))
    for entry in (manifest["settings"], manifest["plan"]):
        entry.pop("reader", None)
    for failure in manifest["failed"]:
        failure["reason"] = ""
    found[MANIFEST_FILE] = manifest
    found["the report"] = (report.images, report.files, [failure.number for failure in report.failed])
    found["the progress"] = max(reported)
    return found
