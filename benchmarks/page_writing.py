"""What the page of a run costs beside the run itself.

    python -m benchmarks.page_writing [--rounds N]

CPU time (user and system) of `surgery.write_page` and of the `surgery.extract` before it, with its own sinks, in one
process with one thread; label maps of 256 x 256, one at a time. The files go to a file system in memory. A ratio is the
median over the rounds of each round's own ratio.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

import surgery
from benchmarks.baselines import benchmark_images, calibrated_network
from benchmarks.measurement import SCRATCH_FOLDER

if TYPE_CHECKING:
    from torch import nn


def measure(model: nn.Module, images: int, rounds: int) -> tuple[float, float, float]:
    """Return the CPU seconds of a run and of its page for each image, and the ratio of the two."""
    runs, pages = [], []
    for number in range(rounds + 1):
        with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
            started = time.process_time()
            surgery.extract(model, benchmark_images(images), out=Path(folder) / "run", check=False)
            finished = time.process_time()
            surgery.write_page(Path(folder) / "run")
            if number:  # the first round imports what is needed
                runs.append((finished - started) / images)
                pages.append((time.process_time() - finished) / images)
    return median(runs), median(pages), median(page / run for page, run in zip(pages, runs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_writing", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, model, images in (("unet_256", calibrated_network(), 6), ("facades", surgery.load_model("facades"), 24)):
        run, page, ratio = measure(model, images, options.rounds)
        print(f"{name}: run {run * 1000:.0f} ms an image, page {page * 1000:.1f} ms, {ratio:.1%}")


if __name__ == "__main__":
    main()
