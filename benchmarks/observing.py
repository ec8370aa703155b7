"""What observing costs: an observed model that is open after every operation and keeps nothing, beside the model.

    python -m benchmarks.observing [--rounds N]

The two take turns in one process on one thread, and CPU time is measured. A ratio is the median over the rounds of each
round's own ratio. Tracing is measured three times, after one that imports what it needs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import surgery

if TYPE_CHECKING:
    from collections.abc import Callable

TORCHVISION = ("resnet18", "resnet50", "mobilenet_v3_small", "convnext_tiny", "vit_b_16", "swin_t")


class ManySmallCalls(nn.Module):
    """A hundred layers of 8 features: nearly all of its time is that of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(100)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x)) + 1
        return x


@dataclass(frozen=True, slots=True)
class ObservingCost:
    """The costs of one model, in seconds of CPU time."""

    name: str
    flops: float
    """Of one forward, in 10**9 multiplications and additions."""
    calls: int
    """How many operations a run has."""
    eager: float
    ratio: float
    """Of a run that is open after every operation to an eager run."""
    per_call: float
    """What an operation costs more than in an eager run."""
    trace: float
    """Tracing with ``front_end="observed"``."""

    def row(self) -> str:
        """Return the costs as a row of the table."""
        cells = (
            self.name,
            f"{self.flops:.2f}",
            self.calls,
            f"{self.eager * 1e3:.1f} ms",
            f"{self.ratio:.2f}",
            f"{self.per_call * 1e6:.1f} µs",
            f"{self.trace * 1e3:.0f} ms",
            f"{self.trace / self.eager:.1f}",
        )
        return f"| {' | '.join(map(str, cells))} |"


HEAD = """| model | GFLOP | operations | eager | open / eager | more per operation | trace | in eager runs |
| --- | --: | --: | --: | --: | --: | --: | --: |"""


def measure(name: str, model: nn.Module, inputs: tuple[Any, ...], rounds: int) -> ObservingCost:
    """Return the costs of a model in eval mode, without gradients."""
    model.eval()
    surgery.trace(model, inputs, front_end="observed")
    trace = median(_cpu_time(lambda: surgery.trace(model, inputs, front_end="observed")) for _ in range(3))
    traced = surgery.trace(model, inputs, front_end="observed")
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    calls = len(surgery.operations(traced))
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(*inputs)
        opened(*inputs)
        times = [(_cpu_time(lambda: model(*inputs)), _cpu_time(lambda: opened(*inputs))) for _ in range(rounds)]
    eager = median(one for one, _ in times)
    return ObservingCost(
        name=name,
        flops=counter.get_total_flops() / 1e9,
        calls=calls,
        eager=eager,
        ratio=median(both / one for one, both in times),
        per_call=median(both - one for one, both in times) / calls,
        trace=trace,
    )


def _cpu_time(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def main() -> None:
    """Print the table."""
    from torchvision import models

    parser = argparse.ArgumentParser(prog="python -m benchmarks.observing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(HEAD)
    for name in TORCHVISION:
        print(measure(name, models.get_model(name), (torch.randn(1, 3, 224, 224),), rounds).row(), flush=True)
    unet = surgery.load_model("unet_256")
    print(measure("unet_256", unet, (torch.randn(1, 3, 256, 256),), rounds).row(), flush=True)
    print(measure("many small calls", ManySmallCalls(), (torch.randn(2, 8),), 10 * rounds).row(), flush=True)


if __name__ == "__main__":
    main()
