"""CPU time, wall time and memory of whole processes, per image: what more images cost, without the start-up."""

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

from benchmarks.baselines import benchmark_images

if TYPE_CHECKING:
    from collections.abc import Sequence


TIME_SLICE = 0.5
"""Seconds that a process runs before it is the next one's turn."""

SCRATCH_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
"""The folder that files are written to: a file system in memory, if there is one, so that no disk is measured.

On ext4, creating a file takes ten times as long when thousands were removed shortly before, as happens after each case.
"""


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """The cost of one process, or of several that run side by side."""

    cpu: float
    """Seconds of user and system time, of the processes and their children."""
    wall: float
    """Seconds."""
    peak: float
    """The greatest resident memory of a process, in MB."""


@dataclass(frozen=True, slots=True)
class Case:
    """A command that is measured with few and with many images."""

    name: str
    command: tuple[str, ...]
    """May contain ``{model}`` for a weights file, ``{images}`` for the number of images, ``{files}`` for their paths
    and ``{out}`` for a folder."""
    few: int
    many: int
    threads: int = 1
    processes: int = 1
    """How many of these processes run side by side."""


@dataclass(slots=True)
class CaseResult:
    """The measurements of a case, one per round: the cost of an image, without the start-up."""

    case: Case
    cpu: list[float]
    wall: list[float]
    peak: list[float]

    @property
    def cpu_seconds(self) -> float:
        """Return the median CPU time of an image."""
        return statistics.median(self.cpu)

    @property
    def wall_seconds(self) -> float:
        """Return the median wall time of an image."""
        return statistics.median(self.wall)

    def cpu_ratio(self, other: CaseResult) -> float:
        """Return the CPU time of an image divided by that of another case."""
        return _median_ratio(self.cpu, other.cpu)

    def wall_ratio(self, other: CaseResult) -> float:
        """Return the wall time of an image divided by that of another case."""
        return _median_ratio(self.wall, other.wall)

    def extra_cpu(self, other: CaseResult, unit: CaseResult) -> float:
        """Return the CPU time of an image minus that of `other`, divided by that of `unit`; all of the same rounds."""
        rounds = zip(self.cpu, other.cpu, unit.cpu, strict=True)
        return statistics.median((one - two) / base for one, two, base in rounds)


def _median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """Return the median of the rounds' ratios, which a slow round changes little.

    For cases that were measured in different rounds, return the ratio of the medians.
    """
    if len(numerators) != len(denominators):
        return statistics.median(numerators) / statistics.median(denominators)
    return statistics.median(one / other for one, other in zip(numerators, denominators, strict=True))


@cache
def weights_file() -> Path:
    """Return the weights of the network that all cases run: a file that exists until this process ends."""
    folder = tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER)
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "unet_256.safetensors"
    # A process of its own writes the file: the memory of this one would count as its children's.
    subprocess.run([sys.executable, "-m", "benchmarks.baselines", "network", str(path)], check=True)
    return path


def surgery_case(name: str, few: int, many: int, *options: str, threads: int = 1, sink: str = "png") -> Case:
    """Return a case of `surgery extract`: a PNG for each of the 55 operations, the input and the output."""
    command = (sys.executable, "-m", "surgery", "extract", "{model}", "{files}", "--sink", sink, "--no-check")
    return Case(name, (*command, "-o", "{out}", *options), few, many, threads)


def baseline_case(name: str, baseline: str, few: int, many: int, batch: int, **settings: int) -> Case:
    """Return a case of one of `benchmarks.baselines`."""
    command = (sys.executable, "-m", "benchmarks.baselines", baseline, "{model}", "{images}", str(batch), "{out}")
    return Case(name, command, few, many, **settings)


def measure_cases(cases: Sequence[Case], rounds: int) -> dict[str, CaseResult]:
    """Measure cases several times. Return their results by name."""
    results = {case.name: CaseResult(case, [], [], []) for case in cases}
    for _ in range(rounds):
        costs_of_few = run_interleaved([(case, case.few) for case in cases])
        costs_of_many = run_interleaved([(case, case.many) for case in cases])
        for case, few, many in zip(cases, costs_of_few, costs_of_many, strict=True):
            images = (case.many - case.few) * case.processes
            result = results[case.name]
            result.cpu.append((many.cpu - few.cpu) / images)
            result.wall.append((many.wall - few.wall) / images)
            result.peak.append(many.peak)
    return results


def extrapolate_channels(name: str, fewer: CaseResult, more: CaseResult, channels: tuple[int, int, int]) -> CaseResult:
    """Return what drawing all channels would cost, on the line through two cases that draw fewer channels.

    `channels` are the numbers of channels that `fewer` and `more` draw, and the number of all.
    """
    low, high, everything = channels

    def extrapolate(some: list[float], others: list[float]) -> list[float]:
        pairs = zip(some, others, strict=True)
        return [one + (other - one) / (high - low) * (everything - low) for one, other in pairs]

    case = replace(more.case, name=name)
    return CaseResult(case, extrapolate(fewer.cpu, more.cpu), extrapolate(fewer.wall, more.wall), more.peak)


def run_case(case: Case, image_count: int) -> ProcessCost:
    """Run a case on so many images, to its end."""
    return run_interleaved([(case, image_count)])[0]


def run_interleaved(runs: Sequence[tuple[Case, int]]) -> list[ProcessCost]:
    """Run cases on so many images each, to their ends. They take turns of `TIME_SLICE`, one at a time.

    A machine that is slow for some seconds, as a shared one may be, is slow for all of them alike.
    """
    weights_file()  # written before the clock starts
    costs = [ProcessCost(0, 0, 0)] * len(runs)
    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
        outs = [
            [Path(folder, f"{number}-{copy}") for copy in range(case.processes)]
            for number, (case, _) in enumerate(runs)
        ]
        running = {
            number: [_start(case, image_count, out) for out in outs[number]]
            for number, (case, image_count) in enumerate(runs)
        }
        try:
            while running:
                for number, processes in list(running.items()):
                    costs[number] = _run_slice(runs[number][0], processes, costs[number], alone=len(running) == 1)
                    if not processes:
                        del running[number]
                        for out in outs[number]:  # up to a gigabyte of memory
                            shutil.rmtree(out)
        finally:
            for process in itertools.chain(*running.values()):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return costs


def _run_slice(case: Case, processes: list[subprocess.Popen[bytes]], cost: ProcessCost, *, alone: bool) -> ProcessCost:
    """Let the processes of a case run for `TIME_SLICE`, or to their ends if they are `alone`.

    Processes that end are removed from the list. Raises RuntimeError when one of them fails.
    """
    started = time.perf_counter()
    for process in processes:
        os.killpg(process.pid, signal.SIGCONT)
    while processes and (alone or time.perf_counter() - started < TIME_SLICE):
        for process in list(processes):
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                processes.remove(process)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise RuntimeError(f"{case.name} ended with {process.returncode}")
                cpu = usage.ru_utime + usage.ru_stime
                cost = replace(cost, cpu=cost.cpu + cpu, peak=max(cost.peak, usage.ru_maxrss / 1024))
        time.sleep(0.002)
    for process in processes:
        os.killpg(process.pid, signal.SIGSTOP)
    return replace(cost, wall=cost.wall + time.perf_counter() - started)


def _start(case: Case, image_count: int, out: Path) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, and stop it at once."""
    out.mkdir()
    words: list[str] = []
    for word in case.command:
        words += [str(path) for path in benchmark_images(image_count)] if word == "{files}" else [word]
    values = {"{images}": str(image_count), "{out}": str(out), "{model}": str(weights_file())}
    words = [values.get(word, word) for word in words]
    environment = {**os.environ, "OMP_NUM_THREADS": str(case.threads)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    os.killpg(process.pid, signal.SIGSTOP)
    return process
