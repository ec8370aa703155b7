"""The cost of pictures of all operations, compared with a plain forward and with other ways to write them.

    python -m benchmarks [--quick] [--default] [--memory] [--profile] [--device cuda]

The model is pix2pix's unet_256 with 64 channels and calibrated norms; the images are label maps of 256 x 256. CPU is
user and system time of whole processes without their start-up: the difference between few and many images. The
processes take turns of half a second, so that a machine that is slow for a while is slow for all. Results are medians
of three rounds.
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
from benchmarks.baselines import MATPLOTLIB_STRIDES
from benchmarks.measurement import (
    Case,
    CaseResult,
    baseline_case,
    extrapolate_channels,
    measure_cases,
    run_case,
    run_interleaved,
    surgery_case,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

MATPLOTLIB = "hooks, matplotlib subplots"
console = Console(width=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round in place of three, fewer images, no matplotlib")
    parser.add_argument("--default", action="store_true", help="only the command's own sinks, in batches of 8")
    parser.add_argument("--memory", action="store_true", help="peak memory over 32 to 256 images instead")
    parser.add_argument("--profile", action="store_true", help="where the time of one run goes instead")
    parser.add_argument("--device", default="cpu", help="cuda: images a second on a GPU instead")
    options = parser.parse_args()
    print_environment()
    if options.memory:
        print_memory()
    elif options.default:
        compare_default()
    elif options.profile:
        from benchmarks.profiling import profile

        profile(console)
    elif options.device != "cpu":
        from benchmarks.gpu import compare

        compare(console, options.device)
    else:
        compare_cases(quick=options.quick)


def compare_cases(*, quick: bool) -> None:
    cores = os.cpu_count() or 1
    rounds, eights, ones = (1, 24, 8) if quick else (3, 72, 44)
    with_matplotlib = not quick and importlib.util.find_spec("matplotlib") is not None
    cases = [
        baseline_case("plain forward, batch 8", "plain", 8, eights, 8),
        baseline_case("plain forward, batch 8, and ready pictures", "ready_pictures", 16, eights + 8, 8),
        surgery_case("surgery, batch 8", 8, eights, "--batch-size", "8"),
        surgery_case("surgery, batch 8, percentile", 8, eights, "--batch-size", "8", "--normalizer", "percentile"),
        surgery_case("surgery, batch 8, and sheets", 8, eights, "--batch-size", "8", "--sink", "sheet"),
        baseline_case("plain forward, batch 1", "plain", 4, ones, 1),
        surgery_case("surgery, batch 1", 4, ones),
        surgery_case("surgery, batch 1, and sheets", 2, 8, "--sink", "sheet"),
        baseline_case("hooks, clamp, save_image", "hooks", 1, 5, 1),
        baseline_case("torchvision, make_grid, save_image", "torchvision", 1, 5, 1),
        baseline_case(f"plain forward, batch 8, {cores} threads", "plain", 8, eights, 8, threads=cores),
        baseline_case(f"plain forward, batch 8, {cores} processes", "plain", 8, eights, 8, processes=cores),
        surgery_case(f"surgery, batch 8, {cores} threads", 8, eights, "--batch-size", "8", threads=cores),
        surgery_case(
            f"surgery, batch 8, --jobs {cores}", 8 * cores, eights * cores, "--batch-size", "8", "--jobs", str(cores)
        ),
    ]
    results = measure_cases(cases, rounds)
    if with_matplotlib:  # once, since it takes minutes
        strided = [baseline_case(f"matplotlib-{n}", f"matplotlib-{n}", 1, 3, 1) for n in MATPLOTLIB_STRIDES]
        fewer, more = measure_cases(strided, 1).values()
        results[MATPLOTLIB] = extrapolate_channels(MATPLOTLIB, fewer, more, count_channels())
    print_costs(results)
    print_goals(results, cores)
    if not quick:
        print_scaling()
    print_start_up()


def compare_default() -> None:
    """Print what the default run costs, pictures and sheets, beside a plain forward, pictures alone, and statistics."""
    cases = [
        baseline_case("plain forward, batch 8", "plain", 8, 40, 8),
        surgery_case("surgery, batch 8", 8, 40, "--batch-size", "8"),
        surgery_case("surgery, batch 8, and sheets", 8, 40, "--batch-size", "8", "--sink", "sheet"),
        surgery_case("surgery, batch 8, statistics alone", 8, 40, "--batch-size", "8", sink="stats"),
    ]
    print_costs(measure_cases(cases, 5))


def print_costs(results: Mapping[str, CaseResult]) -> None:
    table = Table("an image", "CPU", "x plain", "CPU, least to most", "wall", "peak", box=box.MARKDOWN)
    for name, result in results.items():
        plain = results[f"plain forward, batch {8 if 'batch 8' in name else 1}"]
        table.add_row(
            name,
            f"{result.cpu_seconds:.3f} s",
            f"{result.cpu_ratio(plain):.2f}",
            f"{min(result.cpu):.3f} to {max(result.cpu):.3f} s",
            f"{result.wall_seconds:.3f} s",
            f"{statistics.median(result.peak):.0f} MB",
        )
    console.print(table)
    console.print()


def print_goals(results: Mapping[str, CaseResult], cores: int) -> None:
    """Print the ratios that matter, and the goals for them."""
    plain, eight, one = (results[name] for name in ("plain forward, batch 8", "surgery, batch 8", "surgery, batch 1"))
    plains = [results[name] for name in results if name.startswith(f"plain forward, batch 8, {cores}")]
    drawn = [
        results[name]
        for name in results
        if "surgery, batch 8, " in name and not name.endswith(("percentile", "sheets"))
    ]
    best_plain, best = (min(some, key=lambda result: result.wall_seconds) for some in (plains, drawn))
    rows = [
        ("surgery / plain forward, batch 8", eight.cpu_ratio(plain), "<= 1.45"),
        (
            "surgery and sheets / plain forward, batch 8",
            results["surgery, batch 8, and sheets"].cpu_ratio(plain),
            "<= 1.6",
        ),
        ("surgery / plain forward, batch 1", one.cpu_ratio(results["plain forward, batch 1"]), "<= 1.5"),
        (f"wall on {cores} cores, the best of each", best.wall_ratio(best_plain), "<= 1.35"),
        ("hooks, clamp, save_image / surgery", results["hooks, clamp, save_image"].cpu_ratio(one), ">= 8"),
        ("torchvision / surgery", results["torchvision, make_grid, save_image"].cpu_ratio(one), ">= 15"),
        *([("matplotlib / surgery", results[MATPLOTLIB].cpu_ratio(one), ">= 300")] if MATPLOTLIB in results else []),
        (
            "percentile: more, in plain forwards",
            results["surgery, batch 8, percentile"].extra_cpu(eight, plain),
            "<= 0.15",
        ),
    ]
    table = Table("ratio", "measured", "goal", box=box.MARKDOWN)
    for name, ratio, goal in rows:
        table.add_row(name, f"{ratio:.2f}", goal)
    console.print(table)
    console.print()


def count_channels() -> tuple[int, int, int]:
    """Return how many channels are drawn with each of `MATPLOTLIB_STRIDES`, and how many there are in all."""
    counts = [
        operation.shape[1]
        for operation in surgery.operations(traced_network())
        if operation.shape and operation.kind != "cat"
    ]
    low, high = (sum(-(-count // share) for count in counts) for share in MATPLOTLIB_STRIDES)
    return low, high, sum(counts)


@cache
def traced_network() -> nn.Module:
    import torch

    return surgery.trace(surgery.load_model("unet_256").eval(), torch.zeros(1, 3, 256, 256))


def print_scaling() -> None:
    """Print the cost of drawing some of the operations, and how many values they have."""
    selections = ("up1.tanh", "up2.* | up1.tanh", "down* | up1.tanh", "*")  # each runs the model to its end
    nothing = baseline_case("plain forward", "plain", 4, 20, 1)
    results = measure_cases([nothing, *(surgery_case(at, 4, 20, "--at", at) for at in selections)], 1)
    table = Table("drawn", "operations", "values", "CPU over a plain forward", box=box.MARKDOWN)
    for at in selections:
        chosen = surgery.select(traced_network(), at)
        values = sum(math.prod(operation.shape or ()) for operation in chosen)
        over = f"{1000 * (results[at].cpu_seconds - results[nothing.name].cpu_seconds):.0f} ms"
        table.add_row(at, str(len(chosen)), f"{values / 1e6:.2f} M", over)
    console.print(table)
    console.print()


def print_start_up() -> None:
    """Print the CPU time of the command with the shipped model, and that of importing torch."""
    shell = Case("shell", (sys.executable, "-m", "surgery", "extract", "-o", "{out}"), 1, 1)
    torch = Case("torch", (sys.executable, "-c", "import torch"), 1, 1)
    rounds = [[cost.cpu for cost in run_interleaved([(shell, 1), (torch, 1)])] for _ in range(5)]
    whole, imports = (statistics.median(some) for some in zip(*rounds, strict=True))
    rest = statistics.median(both - one for both, one in rounds)
    console.print(
        f"`surgery extract`, the model that ships, one image: {whole:.2f} s of CPU, of which `import torch` "
        f"{imports:.2f} s; the rest {rest:.2f} s (medians of 5, and of their differences; goal: under 1.5 s)"
    )


def print_memory() -> None:
    """Print the peak memory over more and more images: medians, since processes differ by dozens of MB."""
    table = Table("images, in batches of 8", "plain forward", "surgery", "more", box=box.MARKDOWN)
    for count in (32, 64, 128, 256):
        cases = baseline_case("plain", "plain", 8, 32, 8), surgery_case("surgery", 8, 32, "--batch-size", "8")
        plain, peak = (statistics.median(run_case(case, count).peak for _ in range(3)) for case in cases)
        table.add_row(str(count), f"{plain:.0f} MB", f"{peak:.0f} MB", f"{peak - plain:.0f} MB")
    console.print(table)


def print_environment() -> None:
    """Print the versions and the machine."""
    names = ("torch", "torchvision", "numpy", "pillow", "isal", "matplotlib")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(f"no {name}")
    console.print(
        f"Python {platform.python_version()}, {', '.join(versions)}; {os.cpu_count()} cores, {processor_name()}"
    )
    console.print("one thread (OMP_NUM_THREADS=1) where nothing else is said", style="dim")
    console.print()


def processor_name() -> str:
    try:
        listed = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in listed.splitlines() if line.startswith("Model name")), "?")


if __name__ == "__main__":
    main()
