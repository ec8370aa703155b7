"""What an image costs, and how much memory a run takes, from hundreds of inputs to tens of thousands.

    python -m benchmarks.scale [--counts 100 1000 5000 20000] [--sinks png sheet]

The model is tiny: two convolutions and what is between them, 8 channels of 16 x 16. Each run is a process of its own,
with inputs that are links to a few files. CPU is user and system time; from one count to the next the difference is
what the images between them cost, the start not among it. *Again* is the same command once all images are finished:
what a run that goes on takes before its first image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measurement import SCRATCH_FOLDER

MODEL = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n")[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 5000, 20000])
    parser.add_argument("--sinks", nargs="+", default=["png"])
    options = parser.parse_args()
    columns = ("inputs", "CPU", "CPU of an image more", "wall", "peak memory", "manifest", "again, CPU", "again, wall")
    table = Table(*columns, box=box.MARKDOWN)
    before = 0, 0.0
    for count in options.counts:
        with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
            command = prepare(Path(folder), count, options.sinks)
            cpu, wall, peak = run(command)
            manifest = (Path(folder) / "out" / "manifest.json").stat().st_size
            cpu_again, wall_again, _ = run(command)
        more = 1000 * (cpu - before[1]) / (count - before[0])
        shown = "-" if not before[0] else f"{more:.2f} ms"
        table.add_row(
            f"{count:,}",
            f"{cpu:.1f} s",
            shown,
            f"{wall:.1f} s",
            f"{peak:.0f} MB",
            f"{manifest / 1e6:.1f} MB",
            f"{cpu_again:.1f} s",
            f"{wall_again:.1f} s",
        )
        before = count, cpu
    Console(width=120).print(table)


def prepare(folder: Path, count: int, sinks: list[str]) -> list[str]:
    """Make a model and so many inputs, and return the command that runs them."""
    (folder / "tiny.py").write_text(MODEL)
    inputs = folder / "inputs"
    inputs.mkdir()
    for number in range(16):
        values = np.random.default_rng(number).standard_normal((1, 3, 16, 16)).astype(np.float32)
        np.save(folder / f"{number}.npy", values)
    for number in range(count):
        os.link(folder / f"{number % 16}.npy", inputs / f"{number:06}.npy")
    command = [
        sys.executable,
        "-m",
        "surgery",
        "extract",
        f"{folder / 'tiny.py'}:make",
        str(inputs),
        "-o",
        str(folder / "out"),
    ]
    return [
        *command,
        *("--batch-size", "64", "--reader", "array"),
        *(word for sink in sinks for word in ("--sink", sink)),
    ]


def run(command: list[str]) -> tuple[float, float, float]:
    """Run a command. Return CPU and wall time in seconds, and peak memory in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError((process.stderr.read() if process.stderr else b"").decode())
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
