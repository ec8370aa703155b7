"""Tests of the engine with Ray itself, which starts processes: `pytest -n 0 -m ray plugins/surgery-ray` runs them."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
from surgery_ray import ray_workers, remote_worker
from surgery_ray.engine import Ray
from torch import Tensor, nn

import surgery
from surgery.errors import ModelError
from surgery.stages import Lost, Task
from surgery.testing import check_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

pytestmark = pytest.mark.ray


def take_by_value() -> None:
    """Let workers have what is defined here, though they can't import this module."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray, as a user has started it in the same process: one start for all tests that don't test the start."""
    import ray

    take_by_value()
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@dataclass(frozen=True)
class Job:
    """Its tasks count, wait until they are stopped, or kill their worker: as the journal of a task says."""

    batches: int = 10
    device: str = "cpu"

    def pack(self, pickler: ModuleType | None = None, /) -> Job:
        return self

    @contextmanager
    def open(self) -> Iterator[Job]:
        yield self

    def run(self, task: Task, send: Callable[[Any], None], is_stopped: Callable[[], bool], /) -> None:
        send(("started", os.getpid()))
        if task.journal == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        for image in task.images:
            send(image)
        while task.journal == "wait" and not is_stopped():
            time.sleep(0.02)
        send(("done", is_stopped()))


class Inbox(dict[int, list[Any]]):
    """The messages of each worker."""

    def __call__(self, worker: int, message: Any) -> None:
        self.setdefault(worker, []).append(message)

    def wait(self, workers: Any, worker: int, kind: object, seconds: float = 60) -> Any:
        """Receive until a worker has sent a message of a kind, or is lost. Return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for message in self.get(worker, ()):
                if isinstance(message, Lost) if kind is Lost else isinstance(message, tuple) and message[0] == kind:
                    return message
            workers.receive(self, 0.2)
        raise AssertionError(f"no {kind} of {worker} among {self}")


def task(journal: str, *images: int) -> Task:
    return Task(images, journal, {})


def work(engine: Ray) -> None:
    """Do a task with an engine."""
    with engine(Job()) as workers:
        workers.submit(0, task("count"))
        Inbox().wait(workers, 0, "done")


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Net(nn.Module):
    """Its values depend on the batch, on random numbers and on the order of the images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.norm(self.conv(x)))


def photos(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    for number in range(count):
        values = np.random.default_rng(number).standard_normal((1, 3, 8, 8)).astype(np.float32)
        np.save(folder / f"{number:02}.npy", values)
    return sorted(folder.iterdir())


def run(images: list[Path], out: Path, engine: object, **options: Any) -> dict[str, bytes]:
    """Run a model, and return the files."""
    model = Net()
    nn.init.constant_(model.conv.weight, 0.1)
    nn.init.constant_(model.conv.bias, 0)
    surgery.extract(
        model,
        images,
        out=out,
        engine=engine,
        reader="array",
        batch_size=2,
        mode="train",
        sinks=("png", "npz"),
        **options,
    )
    return files_in(out)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NETS = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
"""


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ({"workers": -1}, "workers of ray is 0 or more, not -1"),
        ({"cpus": float("nan")}, "cpus of ray is 0 or more, not nan"),
        ({"gpus": 1.5}, "gpus of ray is a whole number or a part of 1, not 1.5"),
    ],
)
def test_options_that_make_no_sense_are_refused(engine: dict[str, Any], line: str) -> None:
    with pytest.raises(ModelError) as error:
        Ray(**engine)
    assert str(error.value) == line


@pytest.mark.parametrize(
    ("engine", "device", "line"),
    [
        (Ray(gpus=1), "cpu", "gpus=1 of ray is for a model on a GPU, and this one runs on cpu"),
        (Ray(gpus=0), "cuda:0", "the model runs on cuda:0, so each worker of ray needs a GPU: leave out gpus=0"),
        (Ray(), "cuda:1", "Ray chooses the GPU of each worker, which is cuda:0 there: use --device cuda"),
        (
            Ray(address="10.0.0.1"),
            "cpu",
            "an address of Ray is HOST:PORT, such as 10.0.0.1:6379, or auto; not '10.0.0.1'",
        ),
        (Ray(address="127.0.0.1:1"), "cpu", "no Ray cluster answers at 127.0.0.1:1: connection refused"),
        (
            Ray(address="ray://head:10001"),
            "cpu",
            "ray://head:10001 is an address of Ray Client, which can't do a run; ",
        ),
    ],
)
def test_what_can_not_be_begun_is_refused_at_once(engine: Ray, device: str, line: str) -> None:
    started = time.monotonic()
    with pytest.raises(ModelError) as error, engine(Job(device=device)):
        pass
    assert str(error.value).startswith(line)
    assert time.monotonic() - started < 10


def test_the_engine_keeps_the_contract(ray: Any) -> None:
    check_engine(Ray(workers=2))


def test_files_are_those_of_a_run_in_this_process_byte_for_byte(ray: Any, tmp_path: Path) -> None:
    images = photos(tmp_path / "images", 9)
    assert run(images, tmp_path / "ray", Ray(workers=2)) == run(images, tmp_path / "local", "local")


@pytest.mark.parametrize(("first", "second"), [("local", Ray(workers=2)), (Ray(workers=2), "local")])
def test_a_run_that_another_engine_began_goes_on(ray: Any, tmp_path: Path, first: Any, second: Any) -> None:
    images = photos(tmp_path / "images", 12)

    def stop(progress: Any) -> None:
        if progress.done >= 4:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run(images, tmp_path / "out", first, progress=stop)
    finished = json.loads((tmp_path / "out" / "manifest.json").read_text())["images"]
    assert 4 <= len(finished) < len(images)
    assert run(images, tmp_path / "out", second) == run(images, tmp_path / "whole", "local")


def test_a_lost_worker_tells_why_and_another_takes_its_place(ray: Any) -> None:
    inbox = Inbox()
    with Ray(workers=1)(Job()) as workers:
        workers.submit(0, task("count", 1, 2))
        workers.submit(0, task("die"))
        assert "killed" in inbox.wait(workers, 0, Lost).reason
        assert [message if isinstance(message, int) else message[0] for message in inbox[0][:-1]] == [
            "started",
            1,
            2,
            "done",
            "started",
        ]
        first = inbox.pop(0)[0][1]
        workers.submit(0, task("count", 3))
        assert inbox.wait(workers, 0, "started")[1] != first
        assert inbox.wait(workers, 0, "done") == ("done", False)
        assert workers.count == 1


def test_workers_for_which_there_is_no_place_join_when_there_is_one(ray: Any) -> None:
    other = ray.remote(num_cpus=3)(type("Other", (), {"ping": lambda self: None})).remote()
    ray.get(other.ping.remote())
    inbox = Inbox()
    with Ray(workers=2)(Job()) as workers:
        workers.submit(0, task("count"))
        inbox.wait(workers, 0, "done")
        assert workers.count == 1
        ray.kill(other)
        end = time.monotonic() + 30
        while workers.count == 1 and time.monotonic() < end:
            workers.receive(inbox, 0.2)
        workers.submit(1, task("count"))
        inbox.wait(workers, 1, "done")


def test_tasks_of_a_worker_that_is_not_replaced_are_done_by_another(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "PATIENCE", 0.5)
    inbox = Inbox()
    with Ray(workers=2)(Job()) as workers:
        while workers.count < 2:
            workers.receive(inbox, 0.2)
        private: Any = workers
        monkeypatch.setattr(private._actors, "start", lambda: None)  # as if there were no place for another
        workers.submit(0, task("wait", 1))
        inbox.wait(workers, 0, "started")
        workers.submit(1, task("die"))
        inbox.wait(workers, 1, Lost)
        del inbox[1]
        workers.submit(1, task("count", 5))
        time.sleep(0.6)
        workers.receive(inbox, 0)
        workers.stop()
        inbox.wait(workers, 1, "done")
        assert inbox[1] == [("started", inbox[0][0][1]), 5, ("done", True)]


def test_workers_that_share_an_actor_are_lost_together(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "PATIENCE", 0)
    inbox = Inbox()
    with Ray(workers=2)(Job()) as workers:
        while workers.count < 2:
            workers.receive(inbox, 0.2)
        actors: Any = cast("Any", workers)._actors
        with monkeypatch.context() as context:
            context.setattr(actors, "start", lambda: None)
            workers.submit(1, task("die"))
            inbox.wait(workers, 1, Lost)
        inbox.clear()
        workers.submit(0, task("count"))
        workers.submit(1, task("wait"))
        shared = inbox.wait(workers, 1, "started")[1]
        assert inbox[0] == [("started", shared), ("done", False)]
        actors.start()  # now there is a place, while the first actor has a task of the second worker
        while len(actors.started) < 2:
            workers.receive(inbox, 0.2)
        inbox.clear()
        workers.submit(1, task("wait"))
        other = inbox.wait(workers, 1, "started")[1]
        assert other != shared
        os.kill(shared, signal.SIGKILL)
        inbox.wait(workers, 0, Lost)
        inbox.wait(workers, 1, Lost)
        assert not is_alive(other)


def test_a_machine_with_other_versions_is_named(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_worker, "find_versions", lambda: {"torch-surgery": "0", "torch": "1.0"})
    line = rf"could not start: {platform.node()} has .*began with .* torch 1.0; install"
    with pytest.raises(ModelError, match=line):
        work(Ray(workers=2))


def test_a_cluster_without_place_is_an_error_in_one_line(ray: Any) -> None:
    line = "no worker within 1 s: each needs 5 CPU, and the cluster has 4 CPU, of which 4 CPU are free"
    with pytest.raises(ModelError, match=line):
        work(Ray(cpus=5, wait=1))


def test_a_stop_before_a_worker_has_started_gives_tasks_back(ray: Any) -> None:
    inbox = Inbox()
    with Ray(cpus=5)(Job()) as workers:
        workers.submit(0, task("count"))
        workers.receive(inbox, 0.1)
        workers.stop()
        assert inbox.wait(workers, 0, Lost, 5) == Lost("has not started")


PROGRAM = """
import os, signal, time
from test_ray import Inbox, Job, Lost, Ray, task

handler, environment = signal.getsignal(signal.SIGTERM), dict(os.environ)
try:
    with Ray(workers={workers})(Job()) as workers:
        workers.submit(0, task("wait"))
        worker = Inbox().wait(workers, 0, "started")[1]
        print(worker, flush=True)
        if {waits}:
            time.sleep(100)
        os.kill(worker, signal.SIGKILL)
        Inbox().wait(workers, 0, Lost)
        workers.submit(0, task("wait"))
        print(Inbox().wait(workers, 0, "started")[1])
except Exception as error:
    print(error)
import ray
added = {{name for name in os.environ if name not in environment}} - {{"RAY_AUTH_MODE"}}  # which Ray sets
print(ray.is_initialized(), signal.getsignal(signal.SIGTERM) is handler, sorted(added))
"""


def start_program(workers: int, *, waits: bool = False) -> subprocess.Popen[str]:
    text = PROGRAM.format(workers=workers, waits=waits)
    return subprocess.Popen(
        [sys.executable, "-c", text],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )


def environment() -> dict[str, str]:
    """Return variables with which another process finds all modules that this one does, and this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}


def test_a_ray_of_its_own_is_quiet_and_leaves_nothing_behind() -> None:
    output, errors = start_program(1).communicate(timeout=120)
    *workers, rest = output.splitlines()
    assert rest == "False True []"
    assert errors == ""
    assert len(workers) == 2
    assert not any(is_alive(int(worker)) for worker in workers)


def test_the_command_prints_and_writes_what_it_does_without_ray(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    photos(tmp_path / "images", 5)
    command = [sys.executable, "-m", "surgery", "extract", "nets.py:make", "images", "--reader", "array", "--out"]
    printed, written = [], []
    for engine in ("local", "ray:workers=2"):
        done = subprocess.run(
            [*command, f"{engine[:3]}", "--engine", engine],
            cwd=tmp_path,
            env=environment(),
            text=True,
            capture_output=True,
            check=True,
        )
        printed.append((done.stdout.split("images, ")[0].replace("loc/", "ray/"), done.stderr))
        written.append(files_in(tmp_path / engine[:3]))
    assert printed[0] == printed[1]
    assert written[0] == written[1]


def test_more_workers_than_this_machine_has_place_for_are_refused() -> None:
    output, errors = start_program(1000).communicate(timeout=120)
    assert output.startswith(
        f"this machine has place for {os.cpu_count()} workers of ray with 1 CPU each, not for 1000\n"
    )
    assert errors == ""


def test_workers_end_when_the_process_that_began_the_run_is_killed() -> None:
    with start_program(1, waits=True) as program:
        assert program.stdout is not None
        worker = int(program.stdout.readline())
        assert is_alive(worker)
        program.kill()
        program.wait()
        end = time.monotonic() + 1.5  # Ray ends it too, but later
        while is_alive(worker) and time.monotonic() < end:
            time.sleep(0.05)
        assert not is_alive(worker)
