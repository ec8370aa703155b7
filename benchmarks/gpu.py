"""On a GPU: images a second, and how long the device waits."""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from benchmarks.ways import hooks, images, loaded, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

IMAGES, BATCH = 256, 8


def compare(console: Console, device: str) -> None:
    """Print images a second of the plain forward, of ours and of hooks with save_image."""
    import torch

    import surgery
    from surgery.builtin.sinks.png import Png

    if not torch.cuda.is_available():
        console.print("There is no GPU here, so nothing was measured.")
        return
    model = network().to(device)

    def plain() -> None:
        with torch.no_grad():
            for values in loaded(IMAGES, BATCH, device):
                model(values)
        torch.cuda.synchronize()

    def draw(folder: Path) -> None:
        surgery.extract(model, images(IMAGES), out=folder, sinks=[Png()], batch_size=BATCH, device=device)

    def snippet(folder: Path) -> None:
        with torch.no_grad():
            hooks(copy.deepcopy(model), loaded(BATCH, BATCH, device), folder)

    table = Table("way", "images a second", "the device waits", box=box.MARKDOWN)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plain()
        draw(folder)  # once before, so that kernels are chosen and memory is there
        busy = timed(plain)
        for name, way, count in (
            ("plain forward", plain, IMAGES),
            ("surgery", lambda: draw(folder), IMAGES),
            ("hooks, clamp, save_image", lambda: snippet(folder), BATCH),
        ):
            seconds = timed(way)
            share = 1 - busy / IMAGES * count / seconds
            table.add_row(name, f"{count / seconds:.1f}", f"{max(0.0, share):.0%}")
    console.print(torch.cuda.get_device_name())
    console.print(table)


def timed(way: Callable[[], None]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started
