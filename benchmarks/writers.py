"""How drawing and writing grow with the number of writers, where the model costs next to nothing.

    python -m benchmarks.writers [--rounds 5] [--writers 0 1 2] [--side 64] [--channels 16] [--batch 8]

The model passes its input through 30 operations. What is measured is one process with few and with many images, in
turns; the difference is what the images cost. Wall time needs a machine with as many idle cores as writers.

The last line says for how long an activation holds the interpreter's lock, which all writers share: the CPU time of the
thread that runs the model and writes, without that of the calls that let go of the lock: the compiled kernels and those
of files.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

import surgery
from benchmarks.measurement import SCRATCH_FOLDER
from surgery.builtin import Png
from surgery.cli.process_settings import tune_process
from surgery.drawing import compiled_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPERATIONS = 30
FEW, MANY = 16, 80


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--side", type=int, default=64, help="height and width of the maps")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_process()
    walls, cpus = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
        files = write_inputs(Path(folder), (1, options.channels, options.side, options.side))
        run = partial(run_once, files, Path(folder, "out"), options.batch)
        run(FEW, 1)
        for _ in range(options.rounds):
            for writers in options.writers:
                few, many = run(FEW, writers), run(MANY, writers)
                walls[writers].append((many[0] - few[0]) / (MANY - FEW))
                cpus[writers].append((many[1] - few[1]) / (MANY - FEW))
        locked, released = measure_lock(files, Path(folder, "out"), options.batch, options.rounds)
    print_table(options.writers, walls, cpus)
    print(f"{1e3 * locked:.3f} ms of an activation hold the lock, {1e3 * released:.3f} ms do not")


def measure_lock(files: Sequence[Path], out: Path, batch: int, rounds: int) -> tuple[float, float]:
    """Return the seconds of an activation with the interpreter's lock, and those without."""
    locked, released = [], []
    for _ in range(rounds):
        activations = (MANY - FEW) * (OPERATIONS + 2)
        (few, _), (many, _) = (_run_in_one_thread(files, out, batch, count, ()) for count in (FEW, MANY))
        # The clock takes time itself, so that the whole is measured without it.
        (_, few_out), (_, many_out) = (_run_in_one_thread(files, out, batch, count, _CALLS) for count in (FEW, MANY))
        released.append((many_out - few_out) / activations)
        locked.append((many - few) / activations - released[-1])
    return statistics.median(locked), statistics.median(released)


_CALLS = ("open", "close", "replace", "stat")
"""Functions of `os` that let go of the lock."""


def _run_in_one_thread(
    files: Sequence[Path], out: Path, batch: int, count: int, calls: Sequence[str]
) -> tuple[float, float]:
    """Run so many images in one thread. Return its CPU time, and, with `calls`, that of calls without the lock."""
    inside = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                inside += time.thread_time() - started

        return call

    with ExitStack() as stack:
        if calls:
            kernels = {name: timed(each) for name, each in vars(compiled_kernels.kernels).items() if callable(each)}
            stack.enter_context(mock.patch.object(compiled_kernels, "kernels", SimpleNamespace(**kernels)))
        for name in calls:
            stack.enter_context(mock.patch.object(os, name, timed(getattr(os, name))))
        started = time.thread_time()
        run_once(files, out, batch, count, 0)
        return time.thread_time() - started, inside


def write_inputs(folder: Path, shape: tuple[int, ...]) -> list[Path]:
    """Write inputs of smooth noise, which packs like activations do. Return their paths."""
    files = []
    for number in range(MANY):
        values = np.random.default_rng(number).standard_normal(shape).astype(np.float32)
        files.append(folder / f"{number:03}.npy")
        np.save(files[-1], np.cumsum(values, -1))
    return files


def run_once(files: Sequence[Path], out: Path, batch: int, count: int, writers: int) -> tuple[float, float]:
    """Run so many images. Return the seconds of wall time, and of CPU time."""
    model = nn.Sequential(*(nn.Identity() for _ in range(OPERATIONS)))
    wall, cpu = time.perf_counter(), time.process_time()
    surgery.extract(
        model,
        files[:count],
        out=out,
        sinks=[Png()],
        batch_size=batch,
        writer_threads=writers,
        check=False,
        overwrite=True,
    )
    return time.perf_counter() - wall, time.process_time() - cpu


def print_table(writers: Sequence[int], walls: dict[int, list[float]], cpus: dict[int, list[float]]) -> None:
    table = Table(
        "writers", "wall of an image", "CPU of an image", "CPU of an activation", "times one", box=box.MARKDOWN
    )
    for count in writers:
        ratios = [one / own for one, own in zip(walls.get(1, walls[count]), walls[count], strict=True)]
        cpu = statistics.median(cpus[count])
        table.add_row(
            str(count),
            f"{1000 * statistics.median(walls[count]):.1f} ms",
            f"{1000 * cpu:.1f} ms",
            f"{1000 * cpu / (OPERATIONS + 2):.3f} ms",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
