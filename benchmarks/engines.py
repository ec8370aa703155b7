"""Images per second of engines, with one worker and with several.

    python -m benchmarks.engines [--engines local processes:workers=1 processes:workers=2] [--rounds 3] [--images 96]
    python -m benchmarks.engines --engines processes:workers={1,2} ray:workers={1,2}  # with plugins/surgery-ray

Each run is a process of its own, and the engines take turns. The model is the benchmarks' unet_256, in batches of 8,
with a PNG for each value. The clock starts when a quarter of the images is done, so that all workers have started, and
stops when the last one is. The machine needs as many idle cores as there are workers: one thread of torch has each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measurement import SCRATCH_FOLDER, weights_file

if TYPE_CHECKING:
    from surgery.output import Progress

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__.partition("\n")[0])
    parser.add_argument("--engines", nargs="+", default=["local", "processes:workers=1", "processes:workers=2"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "WEIGHTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        engine, weights = options.one
        print(measure(engine, weights, options.images))
        return
    rates: dict[str, list[float]] = {engine: [] for engine in options.engines}
    for _ in range(options.rounds):
        for engine, measured in rates.items():
            measured.append(measure_in_process(engine, options.images))
    print_table(rates)


def measure_in_process(engine: str, count: int) -> float:
    """Return the images per second of an engine, in a new process."""
    command = [sys.executable, "-m", "benchmarks.engines", "--one", engine, str(weights_file()), "--images", str(count)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def measure(engine: str, weights: str, count: int) -> float:
    """Return the images per second of an engine, in this process."""
    import torch

    import surgery
    from benchmarks.baselines import benchmark_images

    torch.set_num_threads(1)
    seen: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        seen.append((time.perf_counter(), progress.done))

    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
        surgery.extract(
            surgery.load_model(weights),
            benchmark_images(count),
            out=Path(folder, "out"),
            sinks=("png",),
            engine=engine,
            batch_size=BATCH,
            check=False,
            progress=note,
        )
    first = next(moment for moment in seen if moment[1] >= count / 4)
    return (seen[-1][1] - first[1]) / (seen[-1][0] - first[0])


def print_table(rates: dict[str, list[float]]) -> None:
    """Print the medians, and what they are to the first engine's: the median of the rounds' own ratios."""
    table = Table("engine", "images a second", "least to most", "x the first", box=box.MARKDOWN)
    first = next(iter(rates.values()))
    for engine, measured in rates.items():
        ratio = statistics.median(one / other for one, other in zip(measured, first, strict=True))
        spread = f"{min(measured):.2f} to {max(measured):.2f}"
        table.add_row(engine, f"{statistics.median(measured):.2f}", spread, f"{ratio:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
