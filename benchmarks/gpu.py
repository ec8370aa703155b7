"""Throughput on a GPU, and the share of time in which the device is idle."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from benchmarks.baselines import benchmark_images, calibrated_network, hooks, load_batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

IMAGES, BATCH = 256, 8


def compare(console: Console, device: str) -> None:
    """Print the images per second of a plain forward, of `surgery.extract` and of hooks with save_image."""
    import torch

    import surgery
    from surgery.builtin.sinks.png import Png

    if not torch.cuda.is_available():
        console.print("There is no GPU here, so nothing was measured.")
        return
    model = calibrated_network().to(device)

    def plain() -> None:
        with torch.no_grad():
            for values in load_batches(IMAGES, BATCH, device):
                model(values)
        torch.cuda.synchronize()

    def draw(folder: Path) -> None:
        surgery.extract(model, benchmark_images(IMAGES), out=folder, sinks=[Png()], batch_size=BATCH, device=device)

    def save_images(folder: Path) -> None:
        with torch.no_grad():
            hooks(copy.deepcopy(model), load_batches(BATCH, BATCH, device), folder)

    table = Table("", "images per second", "the device is idle", box=box.MARKDOWN)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plain()
        draw(folder)  # a first time, so that kernels are chosen and memory is allocated
        busy = measure_seconds(plain)
        for name, run, count in (
            ("plain forward", plain, IMAGES),
            ("surgery", lambda: draw(folder), IMAGES),
            ("hooks, clamp, save_image", lambda: save_images(folder), BATCH),
        ):
            seconds = measure_seconds(run)
            share = 1 - busy / IMAGES * count / seconds
            table.add_row(name, f"{count / seconds:.1f}", f"{max(0.0, share):.0%}")
    console.print(torch.cuda.get_device_name())
    console.print(table)


def measure_seconds(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
