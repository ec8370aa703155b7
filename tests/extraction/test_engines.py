"""Engines: each image is run once, whoever runs it, whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.builtin import Local, Processes
from surgery.builtin.sinks import Npz, Png, Sheet
from surgery.errors import ModelError, OutputError, PluginError, SurgeryError
from surgery.extraction import task_queue
from surgery.extraction.run_plan import TaskResult
from surgery.extraction.task_queue import TaskQueue
from surgery.output import image_records, locks
from surgery.stages import Lost
from surgery.testing.engine_samples import KillingReader, SampleModel, this_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from surgery.stages import Task

ROOT = Path(__file__).parents[2]
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    folder = tmp_path / "arrays"
    folder.mkdir()
    for number in range(9):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).standard_normal((1, 1, 4, 5), np.float32))
    return folder


def run(arrays: Path, out: Path, **options: Any) -> surgery.Report:
    sinks = options.pop("sinks", [Png(), Npz(), Sheet(size=32)])
    reader = options.pop("reader", KillingReader(this_process()))
    files = sorted(arrays.iterdir())
    return surgery.extract(SampleModel(), files, out=out, sinks=sinks, mode="train", reader=reader, **options)


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


# The queue of tasks, against a simulation


@pytest.mark.parametrize("seed", range(12))
def test_each_image_is_finished_once_or_is_one_that_no_worker_survives(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311
    count, size, workers = (*draw.choice([(23, 4), (40, 1), (17, 8), (5, 8)]), 3)
    poison = set(draw.sample(range(count), draw.choice([0, 1, 3])))
    images = [image for image in range(count) if draw.random() < 0.9]
    queue = TaskQueue(images, size)
    finished: Counter[int] = Counter()
    companions: dict[int, tuple[int, ...]] = {}
    failed: dict[int, int] = {}
    losses = 0
    while not queue.is_empty:
        share = queue.take(workers, draw.choice([None, 0.01, 0.3]))
        assert share is not None
        assert share.images == tuple(sorted(share.images))
        done: set[int] = set()
        accident = draw.random() < 0.02
        for batch in share.batches:
            assert len({image // size for image in batch}) == 1
            if poison & set(batch) or accident:
                losses += 1
                queue.lose(share, done)
                break
            if not share.is_probe:
                done |= set(batch)
                companions |= dict.fromkeys(batch, batch)
        else:
            queue.finish(share)
        finished.update(done)
        failed |= queue.lost
        queue.lost.clear()
    assert set(failed) == poison & set(images)
    assert finished == Counter(set(images) - poison)
    assert losses <= 12 + (1 + 2 * task_queue.MAX_LOSSES) * len(poison) * 3
    for image, batch in companions.items():  # those of a batch run together, without those that have failed
        assert set(batch) == {each for each in images if each // size == image // size} - poison


def test_a_batch_with_which_workers_are_lost_and_with_none_of_its_images_has_failed() -> None:
    queue = TaskQueue(range(3), 3)
    for _ in range(20):
        share = queue.take(1)
        if share is None:
            break
        if share.is_probe:
            queue.finish(share)
        else:
            queue.lose(share, ())
    assert set(queue.lost) == {0, 1, 2}
    assert queue.is_empty


def test_tasks_last_about_a_second_and_are_small_at_the_end() -> None:
    queue = TaskQueue(range(1000), 2)
    sizes = []
    while (share := queue.take(4, 0.05)) is not None:
        sizes.append(len(share.batches))
    assert sizes[0] == 20
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-8:] == [1] * 8
    assert sum(sizes) == 500


# The scheduler, with workers that are simulated


class Simulated:
    """An engine whose workers answer as they are told."""

    def __init__(self, count: int, answer: Any) -> None:
        self.count = count
        self.answer = answer
        self.waiting: deque[tuple[int, Task]] = deque()
        self.stopped = 0
        self.most = Counter[int]()

    @contextmanager
    def __call__(self, job: Any) -> Iterator[Simulated]:
        with job.pack().open() as self.worker:
            yield self

    def submit(self, worker: int, task: Task) -> None:
        self.waiting.append((worker, task))
        self.most[worker] = max(self.most[worker], sum(number == worker for number, _ in self.waiting))

    def receive(self, deliver: Any, seconds: float) -> None:
        self.answer(self, deliver)

    def stop(self) -> None:
        self.stopped += 1

    def do(self, deliver: Any, worker: int, task: Task) -> None:
        self.worker.run(task, lambda message: deliver(worker, message), lambda: bool(self.stopped))


def test_a_slow_worker_holds_nobody_up_and_has_one_task(arrays: Path, tmp_path: Path) -> None:
    held: list[tuple[int, Task]] = []
    order: list[int] = []

    def answer(engine: Simulated, deliver: Any) -> None:
        worker, task = engine.waiting.popleft()
        if worker == 0 and engine.waiting:
            engine.waiting.append((worker, task))
            return
        order.append(worker)
        engine.do(deliver, worker, task)

    engine = Simulated(2, answer)
    report = run(arrays, tmp_path / "out", engine=engine, sinks=[Png()])
    assert report.images == 9
    assert order[-1] == 0
    assert order.count(0) == 1, "the other worker has done the rest meanwhile"
    assert max(engine.most.values()) == 1
    assert not held
    run(arrays, tmp_path / "local", sinks=[Png()])
    assert tree(tmp_path / "out") == tree(tmp_path / "local")


def test_workers_that_can_not_start_end_the_run_and_leave_the_folder_as_it_was(arrays: Path, tmp_path: Path) -> None:
    tries = []

    def answer(engine: Simulated, deliver: Any) -> None:
        worker, _ = engine.waiting.popleft()
        tries.append(worker)
        deliver(worker, Lost("has no memory"))

    with pytest.raises(SurgeryError, match=r"^no worker can be started: the last one has no memory$"):
        run(arrays, tmp_path / "out", engine=Simulated(2, answer))
    assert len(tries) < 10
    assert not (tmp_path / "out").exists()


def test_a_run_in_which_no_image_is_survived_ends(arrays: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(40):
        (many / f"{number:02}.npy").write_bytes((arrays / "0.npy").read_bytes())
    from surgery.extraction.run_plan import TaskStarted

    losses = []

    def answer(engine: Simulated, deliver: Any) -> None:
        worker, task = engine.waiting.popleft()
        losses.append(task)
        deliver(worker, TaskStarted())
        deliver(worker, Lost("was killed"))

    with pytest.raises(SurgeryError, match=r"^no worker survives an image; the last one was killed$"):
        run(many, tmp_path / "out", engine=Simulated(2, answer), sinks=[Npz()])
    assert len(losses) < 40
    assert not (tmp_path / "out").exists()


def test_what_sinks_decide_from_the_first_image_is_decided_before_others_run(arrays: Path, tmp_path: Path) -> None:
    decided = []

    def answer(engine: Simulated, deliver: Any) -> None:
        decided.append((len(engine.waiting), bool(engine.waiting[0][1].shared)))
        engine.do(deliver, *engine.waiting.popleft())

    run(arrays, tmp_path / "out", engine=Simulated(3, answer), sinks=[Sheet(size=32)])
    assert decided[0] == (1, False)
    assert all(shared for _, shared in decided[1:])
    assert max(count for count, _ in decided) == 3


def test_an_error_of_an_engine_is_raised_when_the_finished_images_are_recorded(arrays: Path, tmp_path: Path) -> None:
    def answer(engine: Simulated, deliver: Any) -> None:
        if engine.waiting:
            engine.do(deliver, *engine.waiting.popleft())
        else:
            raise ZeroDivisionError

    def breaks(engine: Simulated, deliver: Any) -> None:
        answer(engine, deliver)
        engine.answer = lambda *_: (_ for _ in ()).throw(ZeroDivisionError)

    with pytest.raises(ZeroDivisionError):
        run(arrays, tmp_path / "out", engine=Simulated(1, breaks), sinks=[Npz()])
    assert len(manifest(tmp_path / "out")["images"]) == 1
    assert surgery.verify(tmp_path / "out").sound


@pytest.mark.parametrize(
    ("worker", "message", "problem"),
    [
        (0, "rubbish", "the engine delivered what no worker sends, 'rubbish'"),
        (7, Lost("is gone"), "the engine delivered a message of worker 7, and has 1 worker"),
        (-1, "rubbish", "the engine delivered a message of worker -1, and has 1 worker"),
    ],
)
def test_an_engine_that_breaks_the_rules_ends_the_run_in_one_line(
    arrays: Path, tmp_path: Path, worker: int, message: Any, problem: str
) -> None:
    engine = Simulated(1, lambda _, deliver: deliver(worker, message))
    with pytest.raises(SurgeryError, match=f"^{problem}$"):
        run(arrays, tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()


def test_an_engine_without_workers_is_an_error_and_no_run_that_was_interrupted(arrays: Path, tmp_path: Path) -> None:
    with pytest.raises(SurgeryError, match=r"^the engine has 0 workers, and needs one$"):
        run(arrays, tmp_path / "out", engine=Simulated(0, None))
    assert not (tmp_path / "out").exists()


# Processes


@FORKS
def test_an_image_that_kills_workers_is_reported_and_the_others_are_as_if_it_could_not_be_read(
    arrays: Path, tmp_path: Path
) -> None:
    reader = KillingReader(this_process(), deadly=("4.npy",))
    report = run(arrays, tmp_path / "out", engine=Processes(2), batch_size=3, reader=reader)
    (failure,) = report.failed
    assert failure.number == 4
    assert failure.path == str(arrays / "4.npy")
    assert failure.reason == (
        "3 workers ran it and did not survive: the last one was killed (exit code -9); the system does that when "
        "memory runs out"
    )
    run(arrays, tmp_path / "local", batch_size=3, reader=reader)
    (other,) = manifest(tmp_path / "local")["failed"]
    assert other["reason"].endswith("kills processes")
    found, expected = tree(tmp_path / "out"), tree(tmp_path / "local")
    assert {n: c for n, c in found.items() if n != "manifest.json"} == {
        n: c for n, c in expected.items() if n != "manifest.json"
    }
    assert manifest(tmp_path / "out")["images"] == manifest(tmp_path / "local")["images"]


@FORKS
@pytest.mark.parametrize(
    ("first", "then"), [(Local(), Processes(2)), (Processes(2), Local())], ids=["local", "processes"]
)
def test_a_run_that_one_engine_began_is_finished_by_another(
    arrays: Path, tmp_path: Path, first: Any, then: Any
) -> None:
    def stop(progress: Any) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    stopped = run(arrays, tmp_path / "out", engine=first, batch_size=2, progress=stop)
    assert stopped.interrupted
    assert 0 < stopped.images < 9
    ended = run(arrays, tmp_path / "out", engine=then, batch_size=2)
    assert (ended.images, ended.finished_before) == (9, stopped.images)
    run(arrays, tmp_path / "whole", batch_size=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def slow(path: Path) -> Tensor:
    time.sleep(30 if path.stem == "5" else 0)
    return torch.from_numpy(np.load(path))


@FORKS
def test_ctrl_c_pressed_twice_does_not_wait_for_the_batches_that_run(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(progress: Any) -> None:
        if progress.done == 8:  # the other worker reads the slow file
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    try:
        started = time.monotonic()
        report = run(arrays, tmp_path / "out", engine=Processes(2), reader=slow, sinks=[Npz()], progress=press)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert time.monotonic() - started < 15
    assert report.interrupted
    assert report.images == 8
    assert surgery.verify(tmp_path / "out").sound
    assert not (tmp_path / "out" / ".surgery").exists()


@FORKS
def test_a_worker_of_a_killed_run_that_lives_on_keeps_the_folder(
    arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_records, "LOCK_TIMEOUT", 0)
    out = tmp_path / "out"
    (out / ".surgery").mkdir(parents=True)
    told, wait = os.pipe()
    worker = os.fork()
    if not worker:
        image_records.ImageRecords(out / ".surgery", "somewhere_1")
        os.write(wait, b".")
        time.sleep(60)
        os._exit(0)
    try:
        os.read(told, 1)
        with pytest.raises(
            OutputError, match=r"another run writes to .* \(a worker of it lives on\); wait for its end"
        ):
            run(arrays, out)
    finally:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        os.close(told)
        os.close(wait)
    assert run(arrays, out).images == 9


def test_a_batch_that_two_workers_have_recorded_counts_once(tmp_path: Path) -> None:
    for journal in ("a_1", "a_2"):
        records = image_records.ImageRecords(tmp_path, journal)
        for number in (2, 5) if journal == "a_1" else (0, 5):
            records.add(image_records.ImageRecord(number, 1, b"{}"))
            records.commit(records.take_batch({}))
        records.close()
    assert [batch.number for batch in image_records.read_batches(tmp_path)] == [0, 2, 5]
    assert image_records.read_journal(tmp_path, "a_1") == {2, 5}
    assert image_records.read_journal(tmp_path, "other") == set()
    assert not locks.is_held(tmp_path / "images-a_1")


# Processes that are started anew

PLUGIN = """
from contextlib import contextmanager
import surgery
import _neighbor

@contextmanager
def sizes(folder):
    def write(activation):
        name = f"{folder.place(activation.image)}/{surgery.file_name(activation.path)}.txt"
        with folder.file(name, of=activation) as path:
            path.write_text(_neighbor.describe(activation.values))
    yield write
sizes.alone = True

@surgery.hookimpl
def surgery_sinks():
    return {"sizes": sizes}
"""


def test_a_process_that_shares_nothing_but_files_gives_the_same_bytes(arrays: Path, tmp_path: Path) -> None:
    """The model is in a file, the sink in a plugin file with a neighbor."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sizes.py").write_text(PLUGIN)
    (tmp_path / "own" / "_neighbor.py").write_text("def describe(values): return str(values.sum().item())")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nfrom helper import SCALE\nclass Net(nn.Module):\n"
        "    def forward(self, x):\n        return nn.functional.dropout(x * SCALE, training=True)\n"
    )
    (tmp_path / "helper.py").write_text("SCALE = 3")
    for out, engine in (("local", "local"), ("spawned", "processes:workers=1,start=spawn")):
        words = [
            "extract",
            str(tmp_path / "net.py") + ":Net",
            str(arrays),
            "--plugin",
            str(tmp_path / "own" / "sizes.py"),
        ]
        words += ["--sink", "sizes", "--sink", "npz", "--sink", "png", "--engine", engine, "-o", str(tmp_path / out)]
        words += ["--batch-size", "2", "--reader", "array"]
        done = subprocess.run([sys.executable, "-m", "surgery", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert tree(tmp_path / "spawned") == tree(tmp_path / "local")
    assert len(list((tmp_path / "spawned").glob("*/*.txt"))) == 36


def test_what_can_not_be_sent_to_another_process_is_named(arrays: Path, tmp_path: Path) -> None:
    @contextmanager
    def mine(folder: Any) -> Iterator[Any]:
        yield lambda activation: None

    mine.alone = True  # type: ignore[attr-defined]

    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    out = tmp_path / "out"
    spawned = Processes(1, start="spawn")
    with pytest.raises(
        ModelError, match=r"the sink .*mine.* can't be sent to other processes \(.*\); define it in a mod"
    ):
        run(arrays, out, engine=spawned, sinks=[mine])
    with pytest.raises(ModelError, match=r"^the model can't be sent to other processes \(.*Inner"):
        surgery.extract(Inner(), sorted(arrays.iterdir()), reader="array", out=out, sinks=[Npz()], engine=spawned)
    with pytest.raises(ModelError, match=r"^a reader can't be sent to other processes"):
        run(arrays, out, engine=spawned, reader=lambda path: torch.zeros(1, 1, 4, 4))
    assert not out.exists()


def test_engines_that_can_not_be_are_refused(arrays: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"engine": "local", "jobs": 2}, "choose 2 jobs or an engine, not both; jobs are processes:workers=2"),
        ({"engine": "procesess"}, "no engine is called 'procesess'; did you mean 'processes'?"),
        ({"engine": "processes:workers=-1"}, "there are 0 workers or more, not -1; 0 is one for each core"),
        ({"engine": "processes:start=anew"}, "start"),
        ({"engine": Processes}, r"engine Processes is a class; give a value of it, such as Processes\(\)"),
        ({"sinks": [Png]}, r"sink Png is a class; give a value of it, such as Png\(\)"),
        ({"engine": 3}, "an engine is a name, such as 'processes:workers=4', or a function, not 3"),
        (
            {"engine": "processes", "writer_threads": 2},
            "the workers of Processes.* write in their own thread; use the eng",
        ),
        ({"engine": "processes", "gradients": "output"}, "a run with gradients has one process, not the workers of"),
    ]
    for settings, message in refusals:
        with pytest.raises(SurgeryError, match=message):
            run(arrays, tmp_path / "out", **settings)
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(ModelError, match="this system can't fork a process; leave out start=fork"):
        run(arrays, tmp_path / "out", engine=Processes(2, start="fork"))
    assert not (tmp_path / "out").exists()


def test_an_error_that_ends_a_task_is_sent_as_one_that_can_be_pickled() -> None:
    import pickle

    class LocalError(Exception):
        pass

    result = TaskResult(images=2, error=LocalError("here"), shared={"a": 1})
    sent = pickle.loads(pickle.dumps(result))  # noqa: S301
    assert (sent.images, str(sent.error), sent.shared) == (2, "LocalError: here", {"a": 1})
    assert isinstance(result.error, LocalError)


def test_an_engine_that_can_not_start_is_named(arrays: Path, tmp_path: Path) -> None:
    @contextmanager
    def unreachable(job: Any) -> Iterator[Any]:
        raise OSError("no cluster at 10.0.0.1\nsecond line")
        yield job

    for engine, reason in ((unreachable, "OSError: no cluster at 10.0.0.1"), (lambda job: job, "TypeError: ")):
        with pytest.raises(PluginError, match=rf"^the engine .* can't start: {reason}") as caught:
            run(arrays, tmp_path / "out", engine=engine)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out" / "manifest.json").exists()
