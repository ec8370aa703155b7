"""Whole processes, measured from outside: what they cost an image, less what it costs to start them."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.ways import images

if TYPE_CHECKING:
    from collections.abc import Sequence


TURN = 0.5
"""Seconds."""

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
"""Where files are written: a file system in memory, if there is one, since no disk is to be measured.

On ext4, making a file takes ten times as long where thousands were removed shortly before, as after each way here.
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process."""

    cpu: float
    """Seconds, user and system, of the process and its children."""
    wall: float
    """Seconds."""
    peak: float
    """Most memory that was resident, in MB."""


@dataclass(frozen=True, slots=True)
class Way:
    """Something that is measured: how it is run on so many images."""

    name: str
    command: tuple[str, ...]
    """With ``{model}`` for a checkpoint, ``{images}`` for the number of images, ``{files}`` for their paths and
    ``{out}`` for a folder."""
    few: int
    many: int
    threads: int = 1
    processes: int = 1
    """So many of it at once."""


@dataclass(slots=True)
class Result:
    """What was measured of one way, a value for each round; per image, less the start."""

    way: Way
    cpu: list[float]
    wall: list[float]
    peak: list[float]

    @property
    def seconds(self) -> float:
        """CPU of one image."""
        return statistics.median(self.cpu)

    def over(self, other: Result) -> float:
        """CPU of one image over that of another way."""
        return _ratio(self.cpu, other.cpu)

    def more(self, other: Result, plain: Result) -> float:
        """How much more CPU one image takes than by another way, in those of `plain`; of the same rounds."""
        rounds = zip(self.cpu, other.cpu, plain.cpu, strict=True)
        return statistics.median((one - two) / unit for one, two, unit in rounds)

    @property
    def wall_seconds(self) -> float:
        """Wall time of one image."""
        return statistics.median(self.wall)

    def wall_over(self, other: Result) -> float:
        """Wall time of one image over that of another way."""
        return _ratio(self.wall, other.wall)


def _ratio(some: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of the rounds, since a machine may be slow for one.

    Where they were not measured in the same rounds, the ratio of the medians.
    """
    if len(some) != len(others):
        return statistics.median(some) / statistics.median(others)
    return statistics.median(one / other for one, other in zip(some, others, strict=True))


@cache
def checkpoint() -> Path:
    """The network that all ways run, as a file that is there until the end."""
    folder = tempfile.TemporaryDirectory(dir=MEMORY)
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "unet_256.safetensors"
    # In a process of its own, since what this one holds would count as what the others hold.
    subprocess.run([sys.executable, "-m", "benchmarks.ways", "network", str(path)], check=True)
    return path


def ours(name: str, few: int, many: int, *options: str, threads: int = 1) -> Way:
    """`surgery extract`: a PNG for each of the 55 operations, the input and the output."""
    command = (sys.executable, "-m", "surgery", "extract", "{model}", "{files}", "--sink", "png", "--no-check")
    return Way(name, (*command, "-o", "{out}", *options), few, many, threads)


def other(name: str, way: str, few: int, many: int, batch: int, **settings: int) -> Way:
    """One of `benchmarks.ways`."""
    command = (sys.executable, "-m", "benchmarks.ways", way, "{model}", "{images}", str(batch), "{out}")
    return Way(name, command, few, many, **settings)


def measure(ways: Sequence[Way], rounds: int) -> dict[str, Result]:
    """All ways, several times."""
    results = {way.name: Result(way, [], [], []) for way in ways}
    for _ in range(rounds):
        fewer = in_turns([(way, way.few) for way in ways])
        for way, few, many in zip(ways, fewer, in_turns([(way, way.many) for way in ways]), strict=True):
            more = (way.many - way.few) * way.processes
            result = results[way.name]
            result.cpu.append((many.cpu - few.cpu) / more)
            result.wall.append((many.wall - few.wall) / more)
            result.peak.append(many.peak)
    return results


def extrapolated(name: str, less: Result, more: Result, drawn: tuple[int, int, int]) -> Result:
    """What drawing all channels would take, of what drawing few and drawing more of them took: as much for each more.

    `drawn` are their numbers: in the two, and all.
    """
    low, high, everything = drawn

    def line(some: list[float], others: list[float]) -> list[float]:
        pairs = zip(some, others, strict=True)
        return [one + (other - one) / (high - low) * (everything - low) for one, other in pairs]

    return Result(replace(more.way, name=name), line(less.cpu, more.cpu), line(less.wall, more.wall), more.peak)


def run(way: Way, count: int) -> Cost:
    """One run on so many images, or several at once, to its end."""
    return in_turns([(way, count)])[0]


def in_turns(runs: Sequence[tuple[Way, int]]) -> list[Cost]:
    """Runs on so many images each, to their ends. They take turns of `TURN`, one at a time.

    So a machine that is slow for some seconds, as one that is shared may be, is slow for all of them alike.
    """
    checkpoint()  # which nobody's time is to hold
    costs = [Cost(0, 0, 0)] * len(runs)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        outs = [
            [Path(folder, f"{number}-{each}") for each in range(way.processes)] for number, (way, _) in enumerate(runs)
        ]
        running = {
            number: [_start(way, count, out) for out in outs[number]] for number, (way, count) in enumerate(runs)
        }
        try:
            while running:
                for number, processes in list(running.items()):
                    costs[number] = _turn(runs[number][0], processes, costs[number], alone=len(running) == 1)
                    if not processes:
                        del running[number]
                        for out in outs[number]:  # which may be a gigabyte of memory
                            shutil.rmtree(out)
        finally:
            for process in itertools.chain(*running.values()):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return costs


def _turn(way: Way, processes: list[subprocess.Popen[bytes]], cost: Cost, *, alone: bool) -> Cost:
    """Let some processes run for a while, or to their ends; those that ended leave the list."""
    started = time.perf_counter()
    for process in processes:
        os.killpg(process.pid, signal.SIGCONT)
    while processes and (alone or time.perf_counter() - started < TURN):
        for process in list(processes):
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                processes.remove(process)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise RuntimeError(f"{way.name} ended with {process.returncode}")
                used = usage.ru_utime + usage.ru_stime
                cost = replace(cost, cpu=cost.cpu + used, peak=max(cost.peak, usage.ru_maxrss / 1024))
        time.sleep(0.002)
    for process in processes:
        os.killpg(process.pid, signal.SIGSTOP)
    return replace(cost, wall=cost.wall + time.perf_counter() - started)


def _start(way: Way, count: int, out: Path) -> subprocess.Popen[bytes]:
    out.mkdir()
    words: list[str] = []
    for word in way.command:
        words += [str(path) for path in images(count)] if word == "{files}" else [word]
    known = {"{images}": str(count), "{out}": str(out), "{model}": str(checkpoint())}
    words = [known.get(word, word) for word in words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(way.threads)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    os.killpg(process.pid, signal.SIGSTOP)
    return process
