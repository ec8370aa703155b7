"""What a comparison of two checkpoints costs, in forwards of one of them.

    python -m benchmarks.comparing [--rounds N] [--images N]

256 x 256, one image at a time, one thread. All weights of the second checkpoint differ, so that each operation is also
evaluated on the inputs of the first run: three forwards, and the measures. The ways take turns, and CPU time is
measured from the end of the first image on. A ratio is the median over the rounds of each round's own ratio.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

import surgery
from surgery.cli.process_settings import tune_process
from surgery.comparison.compare_loop import CompareLoop
from surgery.data import inputs
from surgery.studies.memory_limits import MemoryMeter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

MODELS = {"facades": "the shipped model, 8 channels", "unet_256": "pix2pix's unet_256, 64 channels, random weights"}


def change_weights(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose kernels have a little noise."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.02 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return other


def run_forwards(model: nn.Module, images: Tensor) -> float:
    """Return the CPU seconds of a forward of one image."""
    started = 0.0
    with torch.no_grad():
        for number, image in enumerate(images):
            model(image[None])
            if number == 0:
                started = time.process_time()
    return (time.process_time() - started) / (len(images) - 1)


def run_comparison(model: nn.Module, other: nn.Module, images: Tensor, *, own: bool) -> float:
    """Return the CPU seconds of the comparison of one image."""
    marks: list[float] = []
    surgery.compare([model, other], images, own=own, progress=lambda _: marks.append(time.process_time()))
    return (marks[-1] - marks[0]) / (len(marks) - 1)


def measure_memory(run: Callable[[], object], models: Sequence[nn.Module]) -> int:
    """Return the most bytes of tensors that are there at once, without those of the models."""
    with MemoryMeter() as meter:
        for model in models:
            for tensor in (*model.parameters(), *model.buffers()):
                meter._sizes[tensor.untyped_storage()._cdata] = 0  # noqa: SLF001 - known, and not counted
        run()
    peak: int = meter.peak
    return peak


def measure_memories(model: nn.Module, other: nn.Module, image: Tensor) -> tuple[int, int, int]:
    """Return the bytes of all values of a run, those of a forward at its peak, and those of a comparison."""
    traced = surgery.trace(model, image)
    opened = surgery.insert(traced, surgery.select(traced, "*"))
    with torch.no_grad():
        values = sum(activation.values.nbytes for activation in surgery.record(opened, image))
        forward = measure_memory(partial(model, image), [model])
    peaks: list[int] = []
    run_image = CompareLoop._run_image  # noqa: SLF001

    def measured(loop: CompareLoop, *given: Any) -> None:
        peaks.append(measure_memory(partial(run_image, loop, *given), [model, other]))

    with mock.patch.object(CompareLoop, "_run_image", measured):
        surgery.compare([model, other], image)
    return values, forward, max(peaks)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparing", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_process(keep_memory=True)
    images = surgery.load_image(inputs()[0], size=256).repeat(options.images, 1, 1, 1)
    print("| model | way | CPU of an image | / forward |")
    print("| --- | --- | --: | --: |")
    memories: list[str] = []
    for name, described in MODELS.items():
        model = surgery.load_model(name).eval()
        other = change_weights(model)
        ways: dict[str, Callable[[], float]] = {
            "one forward": partial(run_forwards, model, images),
            "compare": partial(run_comparison, model, other, images, own=True),
            "compare without own differences": partial(run_comparison, model, other, images, own=False),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way, run in ways.items():
                times[way].append(run())
        for way, seconds in times.items():
            ratio = median(one / base for one, base in zip(seconds, times["one forward"], strict=True))
            print(f"| {described} | {way} | {median(seconds) * 1e3:.1f} ms | {ratio:.2f} |")
        values, forward, compared = measure_memories(model, other, images[:1])
        memories.append(f"| {described} | {values / 1e6:.1f} | {forward / 1e6:.1f} | {compared / 1e6:.1f} |")
    print("\n| model | all values, MB | a forward at its peak | a comparison at its peak |")
    print("| --- | --: | --: | --: |")
    print("\n".join(memories))


if __name__ == "__main__":
    main()
