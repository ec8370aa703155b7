"""What a million images would take on GPUs, reckoned from parts that are measured here.

    python -m benchmarks.reckoning [--forward 1.24] [--cores 16] [--link 25] [--disk 2]

Measured, with pix2pix's unet_256 in batches of 8, on one thread: what the host's cores do for an image, and its files.
Assumed, since they depend on the machine: the forward pass on the GPU (milliseconds an image), cores and GB/s of the
disk for each GPU, and GB/s of the link between host and GPU. Each part is reckoned as if it were alone; they run beside
each other, so the longest is the limit.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich import box
from rich.console import Console
from rich.table import Table

import surgery
from benchmarks import writers
from benchmarks.baselines import benchmark_images, calibrated_network
from benchmarks.measurement import SCRATCH_FOLDER
from benchmarks.profiling import timed_stages
from surgery.builtin import Png, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from surgery.stages import Sink

IMAGES, BATCH, MILLION = 24, 8, 1_000_000
CODE, VALUE = 1, 4
"""Bytes of a value that cross the link: its code, or the float itself."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a run."""

    name: str
    at: str
    sink: Sink
    bytes_of_value: int


@dataclass(frozen=True)
class Parts:
    """What an image takes."""

    reading: float
    """Seconds of a core."""
    writing: float
    """Seconds of a core, to draw, pack, write and record, or to find statistics."""
    activations: int
    link_bytes: int
    disk_bytes: int
    files: int
    manifest_bytes: int


CHOICES = (
    Kept("a PNG for each value", "*", Png(), CODE),
    Kept("PNGs of what skips join (op:cat)", "op:cat", Png(), CODE),
    Kept("statistics of each value", "*", Statistics(), VALUE),
)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.reckoning", description=__doc__.partition("\n")[0])
    parser.add_argument("--forward", type=float, default=1.24, help="milliseconds of an image on the GPU")
    parser.add_argument("--cores", type=int, default=16, help="cores for each GPU")
    parser.add_argument("--link", type=float, default=25, help="GB/s between host and GPU")
    parser.add_argument("--disk", type=float, default=2, help="GB/s of the disk, for each GPU")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, model, lock = Console(width=120), calibrated_network(), measure_lock()
    for kept in CHOICES:
        parts = measure(model, kept)
        table = Table(kept.name, "of an image", "one GPU", "8 GPUs", box=box.MARKDOWN)
        for name, seconds in (
            ("forward pass (assumed)", options.forward / 1000),
            ("from the GPU", parts.link_bytes / options.link / 1e9),
            ("reading, on all cores", parts.reading / options.cores),
            ("drawing and writing, on all cores", parts.writing / options.cores),
            ("Python in one process a GPU, at most", parts.activations * lock),
            ("the disk", parts.disk_bytes / options.disk / 1e9),
        ):
            hours = seconds * MILLION / 3600
            table.add_row(name, f"{1000 * seconds:.2f} ms", f"{hours:.2f} h", f"{hours / 8:.2f} h")
        console.print(table)
        console.print(
            f"{parts.reading * 1000:.1f} ms of a core to read an image, {parts.writing * 1000:.1f} to draw and write; "
            f"{parts.link_bytes / 1e6:.1f} MB from the GPU; {parts.files:,} files of {parts.disk_bytes / 1e6:.1f} MB, "
            f"{parts.manifest_bytes / 1e3:.1f} kB of the manifest"
        )


def measure(model: nn.Module, kept: Kept) -> Parts:
    """Run some images on the CPU, and return what one takes beside the forward pass."""
    from surgery.extraction import recorder
    from surgery.inputs import readers

    taken: dict[str, float] = defaultdict(float)
    stages = [
        ("read", readers, "load_image"),
        ("write", recorder.Recorder, "write"),
        ("record", recorder.Recorder, "finish_lane"),
        ("statistics", Statistics, "_find"),
    ]

    def run(folder: Path, count: int) -> surgery.Report:
        images = benchmark_images(count)
        return surgery.extract(model, images, at=kept.at, out=folder, sinks=[kept.sink], batch_size=BATCH)

    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as place:
        run(Path(place, "first"), BATCH)
        folder = Path(place, "out")
        with timed_stages(stages, taken):
            run(folder, IMAGES)
        manifest = folder / "manifest.json"
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.parent != folder]
        one = surgery.estimate(model, benchmark_images(1), at=kept.at, out=Path(place, "none"), sinks=[kept.sink])
        return Parts(
            reading=taken["read"] / IMAGES,
            writing=sum(taken[name] for name in ("write", "record", "statistics")) / IMAGES,
            activations=len(one.operations),
            link_bytes=one.values * kept.bytes_of_value,
            disk_bytes=sum(sizes) // IMAGES,
            files=len(sizes) // IMAGES,
            manifest_bytes=manifest.stat().st_size // IMAGES,
        )


def measure_lock() -> float:
    """Return the seconds of CPU of an activation with next to no pixels. In some of them the lock is free."""
    with tempfile.TemporaryDirectory(dir=SCRATCH_FOLDER) as folder:
        files = writers.write_inputs(Path(folder), (1, 1, 4, 4))
        run: Callable[[int], float] = lambda count: writers.run_once(files, Path(folder, "out"), BATCH, count, 0)[1]  # noqa: E731
        run(writers.FEW)
        costs = sorted(run(writers.MANY) - run(writers.FEW) for _ in range(5))
        return costs[2] / (writers.MANY - writers.FEW) / (writers.OPERATIONS + 2)


if __name__ == "__main__":
    main()
