"""Whether each model of the zoos can be examined: it builds and runs the same twice, is small and fast.

    python -m benchmarks.zoo [PATTERN ...]

Each is built twice, and run on one input, on the same again, on two, and on one of another size where it has one. What
fails is printed, and the exit code is 1.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import gc
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.truth import choose_models
from surgery.errors import first_line
from surgery.graph.bitwise import bitwise_equal
from surgery.graph.tensors import named_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmarks.zoo import ZooModel

MOST_MEGABYTES = 50
MOST_SECONDS = 1


def check(entry: ZooModel) -> list[str]:
    """Return what is wrong with a model; [] if nothing is."""
    model, other = entry.build(), entry.build()
    faults = [] if _equal(_state(model), _state(other)) else ["two builds differ"]
    first = _run(model, entry.inputs(1))
    if not first:
        faults.append("no tensor comes out")
    if not _equal(first, _run(other, entry.inputs(1))):
        faults.append("two runs differ")
    if not _equal(_state(model), _state(other)):
        faults.append("two runs leave other states")
    started = time.perf_counter()
    _run(model, entry.inputs(1))
    if (seconds := time.perf_counter() - started) > MOST_SECONDS:
        faults.append(f"a run takes {seconds:.1f} s")
    weights = {id(value): value for value in model.parameters()}.values()
    if (size := sum(value.numel() * value.element_size() for value in weights) / 1e6) > MOST_MEGABYTES:
        faults.append(f"the weights take {size:.0f} MB")
    _run(model, entry.inputs(2))
    if entry.has_other_size:
        _run(model, entry.inputs(1, other=True))
    return faults


def _state(model: nn.Module) -> list[Tensor]:
    return [value for value in model.state_dict().values() if isinstance(value, torch.Tensor)]


def _run(model: nn.Module, inputs: tuple[Any, ...] | dict[str, Any]) -> list[Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    return [tensor for _, tensor in named_tensors(output)]


def _equal(ones: list[Tensor], others: list[Tensor]) -> bool:
    return len(ones) == len(others) and all(map(bitwise_equal, ones, others))


def main() -> int:
    """Check the models, and return how many of them have a fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    checked = faulty = 0
    for entry in choose_models(parser.parse_args().patterns):
        if entry.missing_package:
            continue
        try:
            faults = check(entry)
        except Exception as error:  # noqa: BLE001 - whatever a model raises
            faults = [f"{type(error).__name__}: {first_line(error)}"]
        gc.collect()
        checked += 1
        faulty += bool(faults)
        if faults:
            print(f"{entry.zoo} {entry.name}: {'; '.join(faults)}", flush=True)
    print(f"{checked} models, {faulty} with a fault")
    return faulty


if __name__ == "__main__":
    sys.exit(main() > 0)
