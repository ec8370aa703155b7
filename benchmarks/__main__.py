"""What pictures of all operations cost, beside a plain forward and beside the usual snippet, in one run.

    python -m benchmarks [--quick]

CPU time is user and system of the whole process; each way runs in turn, several times, and the median counts.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import platform
import resource
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import surgery
from surgery.builtin.normalizers import Percentile
from surgery.builtin.sinks import Png, Sheet

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three rounds in place of seven")
    rounds = 3 if parser.parse_args().quick else 7
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = surgery.load_model("unet_256").eval()
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)).save(image)
        values = surgery.load_image(image)
        out = Path(folder) / "out"
        ways: dict[str, Callable[[], object]] = {
            "plain forward": lambda: plain(model, values),
            "surgery: a PNG for each operation": lambda: extract(model, image, out, [Png()]),
            "surgery: the same, percentile": lambda: surgery.extract(
                model, image, out=out, sinks=[Png()], normalizer=Percentile()
            ),
            "surgery: the same and the sheet": lambda: extract(model, image, out, [Png(), Sheet()]),
            "hooks, clamp, save_image": lambda: hooks(model, values, Path(folder)),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                before = cpu()
                way()
                taken[name].append(cpu() - before)
    show(taken, rounds)


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def plain(model: nn.Module, values: Tensor) -> None:
    with torch.no_grad():
        model(values)


def extract(model: nn.Module, image: Path, out: Path, sinks: list[Png | Sheet]) -> None:
    surgery.extract(model, image, out=out, sinks=sinks)


def hooks(model: nn.Module, values: Tensor, folder: Path) -> None:
    """The snippet that is passed around: each leaf module's value, clamped, its channels as a grid."""
    from torchvision.utils import save_image

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, value: Tensor) -> None:
            maps = value.detach().clone()[0].unsqueeze(1)
            save_image(maps.clamp(0, 1), folder / f"{name}.png", nrow=int(len(maps) ** 0.5))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(keep(name)) for name, module in leaves]
    plain(model, values)
    for handle in handles:
        handle.remove()


def show(taken: dict[str, list[float]], rounds: int) -> None:
    medians = {name: statistics.median(times) for name, times in taken.items()}
    base = medians["plain forward"]
    table = Table("one image, one thread", "CPU", "x plain forward", "spread", box=None, pad_edge=False)
    for name, times in taken.items():
        spread = f"{min(times):.2f} to {max(times):.2f} s"
        table.add_row(name, f"{medians[name]:.2f} s", f"{medians[name] / base:.1f}", spread)
    console = Console(width=100)
    console.print(table)
    console.print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} thread, "
        f"median of {rounds}; surgery's figures include tracing, hashing the weights and the manifest",
        style="dim",
    )


if __name__ == "__main__":
    main()
