"""What an ablation study of every channel costs, beside full forwards of the edited models.

    python -m benchmarks.ablation [--rounds N]

The shipped model, 256 x 256, one thread, in a process set up as that of `surgery ablate`: each channel of every
convolution and norm is set to zero. The ways take turns, and CPU time is measured. A ratio is the median over the
rounds of each round's own ratio. Inserting the edits is measured in none of them.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

import surgery
from surgery.builtin import Zero
from surgery.cli.process_settings import tune_process
from surgery.data import inputs
from surgery.graph import input_names
from surgery.layouts import find_map_views
from surgery.studies.effects import OutputComparison
from surgery.studies.variant_runs import PointRuns, VariantRunner, repeat_inputs
from surgery.studies.variants import group_units, make_units

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surgery.studies.variants import UnitGroup

BATCH = 8
"""Variants in a batch."""
KINDS = surgery.op("conv2d") | surgery.op("convtranspose2d") | surgery.op("batchnorm2d")


class Study:
    """The variants of the study, and the ways to run them."""

    def __init__(self) -> None:
        image = surgery.load_image(inputs()[0])
        traced = surgery.trace(surgery.load_model("facades").eval(), image)
        chosen = surgery.select(traced, KINDS)
        views = find_map_views(traced, chosen)
        edits = {operation.path: Zero() for operation in chosen}
        units = make_units(traced, chosen, "channel", views)
        self.groups: Sequence[UnitGroup] = group_units(traced, units, edits, views, "zero")[0]
        self.runner = VariantRunner(traced, torch.device("cpu"), seed=0)
        [self._name] = input_names(traced)
        self._image = {self._name: image}
        self._comparison = OutputComparison(self.runner.run(self._image), (-1.0, 1.0))

    @property
    def variants(self) -> int:
        """The number of variants."""
        return sum(len(group.units) for group in self.groups)

    def run_one_by_one(self) -> None:
        """Run a full forward for each variant."""
        for group in self.groups:
            for variant in group.variants:
                group.point.choose([variant])
                self.runner.run(self._image, group.point.edited)

    def run_in_batches(self) -> None:
        """Run full forwards of the same batches that `run_from_cuts` runs."""
        for group in self.groups:
            width = self._width(group)
            values = repeat_inputs(self._image, [self._name], width)
            for first in range(0, len(group.variants), width):
                rows = group.variants[first : first + width]
                group.point.choose([*rows, *[None] * (width - len(rows))])
                self.runner.run(values, group.point.edited)

    def run_from_cuts(self, consume: Callable[[range, Any], None] = lambda _numbers, _output: None) -> None:
        """Run the variants as a study does: each batch from its cut."""
        by_width: dict[int, list[UnitGroup]] = {}
        for group in self.groups:
            by_width.setdefault(self._width(group), []).append(group)
        for width, groups in by_width.items():
            values = repeat_inputs(self._image, [self._name], width)
            self.runner.run_points(values, [PointRuns(group.point, group.variants, consume) for group in groups], width)

    def run_and_measure(self) -> None:
        """Run the variants from their cuts, and measure each output: differences and structural similarity."""

        def consume(_numbers: range, output: torch.Tensor) -> None:
            for row in output:
                self._comparison.measure(row[None])

        self.run_from_cuts(consume)

    @staticmethod
    def _width(group: UnitGroup) -> int:
        count = len(group.variants)
        return -(-count // -(-count // BATCH))


def cpu_seconds(run: Callable[[], None]) -> float:
    """Return the CPU time of a call."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    tune_process(keep_memory=True)
    study = Study()
    ways = {
        "full forwards, one for each variant": study.run_one_by_one,
        f"full forwards, batches of {BATCH}": study.run_in_batches,
        "from the cuts": study.run_from_cuts,
        "from the cuts, measured": study.run_and_measure,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            times[name].append(cpu_seconds(run))
    first, second, *_ = times
    print(f"{study.variants} variants of {len(study.groups)} operations\n")
    print("| way | CPU of a variant | / one for each | / batches |")
    print("| --- | --: | --: | --: |")
    for name, seconds in times.items():
        ratios = [
            median(one / other for one, other in zip(seconds, times[base], strict=True)) for base in (first, second)
        ]
        cells = (name, f"{median(seconds) / study.variants * 1e3:.2f} ms", *(f"{ratio:.2f}" for ratio in ratios))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
