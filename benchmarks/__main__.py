"""What pictures of all operations cost, beside a plain forward and beside what one would otherwise write, in one run.

    python -m benchmarks [--quick] [--memory] [--profile] [--device cuda]

The model is pix2pix's unet_256 with 64 channels, its norms calibrated; the images are label maps of 256 x 256. CPU is
user and system time of whole processes less their start: what so many more images cost. The processes take turns of
half a second, so that a machine that is slow for a while is slow for all; medians of three rounds count.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import statistics
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

import surgery
from benchmarks.measuring import Result, Way, extrapolated, in_turns, measure, other, ours, run
from benchmarks.ways import SHARES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import fx

MATPLOTLIB = "hooks, matplotlib subplots"
console = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round in place of three, fewer images, no matplotlib")
    parser.add_argument("--memory", action="store_true", help="peak memory over 32 to 256 images instead")
    parser.add_argument("--profile", action="store_true", help="where the time of one run goes instead")
    parser.add_argument("--device", default="cpu", help="cuda: images a second on a GPU instead")
    chosen = parser.parse_args()
    said()
    if chosen.memory:
        memory()
    elif chosen.profile:
        from benchmarks.profiling import profile

        profile(console)
    elif chosen.device != "cpu":
        from benchmarks.gpu import compare

        compare(console, chosen.device)
    else:
        compare_ways(quick=chosen.quick)


def compare_ways(*, quick: bool) -> None:
    cores = os.cpu_count() or 1
    rounds, eights, ones = (1, 24, 8) if quick else (3, 72, 44)
    with_matplotlib = not quick and importlib.util.find_spec("matplotlib") is not None
    ways = [
        other("plain forward, batch 8", "plain", 8, eights, 8),
        other("plain forward, batch 8, and ready pictures", "files", 16, eights + 8, 8),
        ours("surgery, batch 8", 8, eights, "--batch-size", "8"),
        ours("surgery, batch 8, percentile", 8, eights, "--batch-size", "8", "--normalizer", "percentile"),
        other("plain forward, batch 1", "plain", 4, ones, 1),
        ours("surgery, batch 1", 4, ones),
        ours("surgery, batch 1, overview sheet", 2, 8, "--sink", "sheet"),
        other("hooks, clamp, save_image", "hooks", 1, 5, 1),
        other("torchvision, make_grid, save_image", "torchvision", 1, 5, 1),
        other(f"plain forward, batch 8, {cores} threads", "plain", 8, eights, 8, threads=cores),
        other(f"plain forward, batch 8, {cores} processes", "plain", 8, eights, 8, processes=cores),
        ours(f"surgery, batch 8, {cores} threads", 8, eights, "--batch-size", "8", threads=cores),
        ours(f"surgery, batch 8, --jobs {cores}", 8 * cores, eights * cores, "--batch-size", "8", "--jobs", str(cores)),
    ]
    results = measure(ways, rounds)
    if with_matplotlib:  # once, since it takes minutes
        shares = [other(f"matplotlib-{share}", f"matplotlib-{share}", 1, 3, 1) for share in SHARES]
        less, more = measure(shares, 1).values()
        results[MATPLOTLIB] = extrapolated(MATPLOTLIB, less, more, channels())
    show(results)
    targets(results, cores)
    if not quick:
        linear()
    start()


def show(results: Mapping[str, Result]) -> None:
    table = Table("an image", "CPU", "x plain", "CPU, least to most", "wall", "peak", box=box.MARKDOWN)
    for name, result in results.items():
        plain = results[f"plain forward, batch {8 if 'batch 8' in name else 1}"]
        table.add_row(
            name,
            f"{result.seconds:.3f} s",
            f"{result.over(plain):.2f}",
            f"{min(result.cpu):.3f} to {max(result.cpu):.3f} s",
            f"{result.wall_seconds:.3f} s",
            f"{statistics.median(result.peak):.0f} MB",
        )
    console.print(table)
    console.print()


def targets(results: Mapping[str, Result], cores: int) -> None:
    """The ratios that matter, and what they are hoped to be."""
    plain, eight, one = (results[name] for name in ("plain forward, batch 8", "surgery, batch 8", "surgery, batch 1"))
    plains = [results[name] for name in results if name.startswith(f"plain forward, batch 8, {cores}")]
    drawn = [results[name] for name in results if name.startswith("surgery, batch 8,") and "percentile" not in name]
    best_plain, best = (min(some, key=lambda result: result.wall_seconds) for some in (plains, drawn))
    rows = [
        ("surgery / plain forward, batch 8", eight.over(plain), "<= 1.45"),
        ("surgery / plain forward, batch 1", one.over(results["plain forward, batch 1"]), "<= 1.5"),
        (f"wall on {cores} cores, the best of each", best.wall_over(best_plain), "<= 1.35"),
        ("hooks, clamp, save_image / surgery", results["hooks, clamp, save_image"].over(one), ">= 8"),
        ("torchvision / surgery", results["torchvision, make_grid, save_image"].over(one), ">= 15"),
        *([("matplotlib / surgery", results[MATPLOTLIB].over(one), ">= 300")] if MATPLOTLIB in results else []),
        (
            "percentile: more, in plain forwards",
            results["surgery, batch 8, percentile"].more(eight, plain),
            "<= 0.15",
        ),
    ]
    table = Table("ratio", "measured", "goal", box=box.MARKDOWN)
    for name, ratio, goal in rows:
        table.add_row(name, f"{ratio:.2f}", goal)
    console.print(table)
    console.print()


def channels() -> tuple[int, int, int]:
    """How many channels of all layers are drawn with each of `SHARES`, and how many there are."""
    counts = [
        operation.shape[1] for operation in surgery.operations(traced()) if operation.shape and operation.kind != "cat"
    ]
    low, high = (sum(-(-count // share) for count in counts) for share in SHARES)
    return low, high, sum(counts)


@cache
def traced() -> fx.GraphModule:
    import torch

    return surgery.trace(surgery.load_model("unet_256").eval(), torch.zeros(1, 3, 256, 256))


def linear() -> None:
    """What it costs to draw some of the operations, beside how many values they have."""
    some = ("up1.tanh", "up2.* | up1.tanh", "down* | up1.tanh", "*")  # all run to the end
    nothing = other("plain forward", "plain", 4, 20, 1)
    results = measure([nothing, *(ours(at, 4, 20, "--at", at) for at in some)], 1)
    table = Table("drawn", "operations", "values", "CPU over a plain forward", box=box.MARKDOWN)
    for at in some:
        chosen = surgery.select(traced(), at)
        values = sum(math.prod(operation.shape or ()) for operation in chosen)
        over = f"{1000 * (results[at].seconds - results[nothing.name].seconds):.0f} ms"
        table.add_row(at, str(len(chosen)), f"{values / 1e6:.2f} M", over)
    console.print(table)
    console.print()


def start() -> None:
    """CPU of the command on the model that ships, and of what it waits for."""
    shell = Way("shell", (sys.executable, "-m", "surgery", "extract", "-o", "{out}"), 1, 1)
    torch = Way("torch", (sys.executable, "-c", "import torch"), 1, 1)
    rounds = [[cost.cpu for cost in in_turns([(shell, 1), (torch, 1)])] for _ in range(5)]
    whole, imports = (statistics.median(some) for some in zip(*rounds, strict=True))
    rest = statistics.median(both - one for both, one in rounds)
    console.print(
        f"`surgery extract`, the model that ships, one image: {whole:.2f} s of CPU, of which `import torch` "
        f"{imports:.2f} s; the rest {rest:.2f} s (medians of 5, and of their differences; goal: under 1.5 s)"
    )


def memory() -> None:
    """Peak memory over more and more images: medians, since one process takes some dozen MB more than the next."""
    table = Table("images, in batches of 8", "plain forward", "surgery", "more", box=box.MARKDOWN)
    for count in (32, 64, 128, 256):
        ways = other("plain", "plain", 8, 32, 8), ours("surgery", 8, 32, "--batch-size", "8")
        plain, peak = (statistics.median(run(way, count).peak for _ in range(3)) for way in ways)
        table.add_row(str(count), f"{plain:.0f} MB", f"{peak:.0f} MB", f"{peak - plain:.0f} MB")
    console.print(table)


def said() -> None:
    """What was measured, and on what."""
    names = ("torch", "torchvision", "numpy", "pillow", "isal", "matplotlib")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"no {name}")
    console.print(f"Python {platform.python_version()}, {', '.join(versions)}; {os.cpu_count()} cores, {processor()}")
    console.print("one thread (OMP_NUM_THREADS=1) where nothing else is said", style="dim")
    console.print()


def processor() -> str:
    try:
        listed = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in listed.splitlines() if line.startswith("Model name")), "?")


if __name__ == "__main__":
    main()
