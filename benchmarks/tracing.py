"""What tracing costs, beside a run of the model: `surgery.trace` with an example, for models as they are built.

    python -m benchmarks.tracing [PATTERN ...] [--rounds N]

CPU time on one thread. In each round a model is built anew and traced with each front end, and runs before that. The
table has medians over the rounds, and of each round's own ratio. Models of packages that are missing are left out.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import time
import warnings
from collections import defaultdict
from fnmatch import fnmatchcase
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

import surgery
from benchmarks.zoo import list_models
from surgery.graph.trace_info import trace_info

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

_TORCHVISION = {"resnet18": 64, "mobilenet_v3_small": 224, "swin_t": 224, "vit_b_16": 224}
"""Models of torchvision with the height and width of their input."""
_ZOO = {("transformers.text", "bert"), ("diffusers.unets", "UNet2DConditionModel")}

HEAD = """| model | operations | eager | auto | trace | in eager runs | observed | in eager runs |
| --- | --: | --: | --- | --: | --: | --: | --: |"""


def list_cases() -> Iterator[tuple[str, Callable[[], nn.Module], Any]]:
    """Yield names of models, what builds them, and an example for each."""
    from torchvision import models

    yield "the shipped model", lambda: surgery.load_model("facades"), (torch.randn(1, 3, 256, 256),)
    for name, side in _TORCHVISION.items():
        yield f"{name}, {side} x {side}", lambda name=name: models.get_model(name), (torch.randn(1, 3, side, side),)  # type: ignore[misc]
    for entry in list_models():
        if (entry.zoo, entry.name) in _ZOO and not entry.missing_package:
            yield f"{entry.zoo} {entry.name}", entry.build, entry.inputs(1)


def measure(name: str, build: Callable[[], nn.Module], example: Any, rounds: int) -> str:
    """Return the costs of a model in eval mode as a row of the table."""
    seconds: dict[str, list[float]] = defaultdict(list)
    front_end, operations = "", 0
    for number in range(rounds + 1):
        model = build().eval()
        with torch.no_grad():
            arguments, keywords = ((), example) if isinstance(example, dict) else (example, {})
            times = {"eager": min(_timed(model, *arguments, **keywords)[0] for _ in range(3))}
        times["observed"], _ = _timed(surgery.trace, model, example, front_end="observed")
        times["auto"], traced = _timed(surgery.trace, model, example)
        front_end, operations = trace_info(traced).front_end or "", len(surgery.operations(traced))
        for what, time_taken in times.items() if number else ():  # the first round imports what it needs
            seconds[what].append(time_taken)
    cells = [name, str(operations), f"{1e3 * median(seconds['eager']):.1f} ms", front_end]
    for asked in ("auto", "observed"):
        ratios = [one / eager for one, eager in zip(seconds[asked], seconds["eager"], strict=True)]
        cells += [f"{1e3 * median(seconds[asked]):.0f} ms", f"{median(ratios):.1f}"]
    return f"| {' | '.join(cells)} |"


def _timed(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, Any]:
    """Return the CPU time of a call, in seconds, and what it returned."""
    started = time.process_time()
    value = function(*args, **kwargs)
    return time.process_time() - started, value


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracing", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="names of models, such as resnet*")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    print(HEAD)
    for name, build, example in list_cases():
        if not options.patterns or any(fnmatchcase(name, pattern) for pattern in options.patterns):
            print(measure(name, build, example, options.rounds), flush=True)


if __name__ == "__main__":
    main()
