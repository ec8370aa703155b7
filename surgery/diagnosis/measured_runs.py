"""The runs of a diagnosis: each image once, and once more with another seed if the model draws random numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.diagnosis.channel_numbers import MeanNumbers, OperationNumbers
from surgery.drawing import apply_measure, fit_measure
from surgery.errors import ImageError, SurgeryError, first_line
from surgery.extraction import find_measured_operations
from surgery.rewriting import insert
from surgery.stages import MeasuredOperation
from surgery.studies import VariantRunner
from surgery.types import Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from surgery.stages import Measure
    from surgery.studies import StudyImage, StudySetup

PASSES = {
    "similarity": ("correlation", "near 1, the maps are the same whatever the input is: it is ignored"),
    "drift": ("ratio", "1 if all images have one range of values; 10 is ten times the range in one of them"),
    "equivariance": ("dB", "the higher, the better the maps follow a shift of the image by 8 pixels"),
    "noise": ("share", "the share of the variance that random numbers make, such as those of a dropout"),
}
"""What is measured between images or between runs: units, and how to read the numbers."""
INPUT = "input"
_SHIFT = 8
"""Pixels by which images are shifted down and right; maps of a lower resolution are shifted by less."""


class MeasuredRuns:
    """Runs the images of a study, and gathers the numbers of its operations and of the input, by path."""

    def __init__(self, setup: StudySetup, measures: Mapping[str, Measure], passes: frozenset[str]) -> None:
        self._setup = setup
        self._measures = measures
        self._passes = passes
        self._opened = insert(setup.traced, setup.chosen)
        self._measured = find_measured_operations(setup.traced)
        device, seed = torch.device(setup.arguments.device), setup.arguments.seed
        self._other = VariantRunner(setup.traced, device, seed + 1 if seed < 2**62 else seed - 1)
        self._fitted: dict[str, dict[str, Measure]] = {}
        self.numbers: dict[str, OperationNumbers] = {}

    @property
    def is_random(self) -> bool:
        """Whether the model draws random numbers."""
        return self._setup.runner.draws_random_numbers

    def upsamples(self, path: str) -> bool:
        """Return whether an operation itself enlarges its maps."""
        measured = self._measured.get(path)
        return measured is not None and measured.is_upsampling

    def run(self, image: StudyImage) -> None:
        """Run an image and gather its numbers. Raises ImageError if the model does not take it."""
        kept: dict[str, Tensor] = {}
        wants_noise, wants_shift = "noise" in self._passes, "equivariance" in self._passes
        self._gather_input(image)

        def gather(operation: Operation, value: Any) -> None:
            maps = self._maps(operation, value)
            if maps is not None:
                self._gather(operation, maps)
                if (wants_noise or wants_shift) and operation.path not in kept:
                    kept[operation.path] = maps.clone()

        def gather_again(operation: Operation, value: Any) -> None:
            maps = self._maps(operation, value)
            if maps is not None and operation.path in kept:
                self.numbers[operation.path].noise.add(kept[operation.path], maps)

        self._run(self._setup.runner, image, gather)
        if wants_noise and self.is_random:
            self._run(self._other, image, gather_again)
        if wants_shift:
            self._gather_shifted(image, kept)

    def _gather_shifted(self, image: StudyImage, kept: Mapping[str, Tensor]) -> None:
        """Run a shifted image, and compare its maps with shifted ones. Does nothing for another kind of input."""
        name = image.repeated[0]
        main = image.values[name]
        if not isinstance(main, Tensor) or main.ndim != 4 or len(image.repeated) > 1:
            return
        height, width = main.shape[2:]
        moved = replace(image, values={**image.values, name: main.roll((_SHIFT, _SHIFT), (2, 3))})

        def compare(operation: Operation, value: Any) -> None:
            maps = self._maps(operation, value)
            if maps is None or operation.path not in kept:
                return
            rows, columns = _SHIFT * maps.shape[1] / height, _SHIFT * maps.shape[2] / width
            if rows.is_integer() and columns.is_integer() and min(rows, columns) > 0:
                equivariance = self.numbers[operation.path].equivariance
                equivariance.add(kept[operation.path], maps, (int(rows), int(columns)))

        self._run(self._setup.runner, moved, compare)

    def keep_maps(self, image: StudyImage, paths: frozenset[str]) -> Mapping[str, Tensor]:
        """Return the maps ``(C, H, W)`` of some operations for an image, on the CPU."""
        kept: dict[str, Tensor] = {}

        def keep(operation: Operation, value: Any) -> None:
            maps = self._maps(operation, value) if operation.path in paths else None
            if maps is not None:
                kept.setdefault(operation.path, maps.cpu().clone())

        self._run(self._setup.runner, image, keep)
        return kept

    def _run(self, runner: VariantRunner, image: StudyImage, listener: Callable[[Operation, Any], None]) -> None:
        failed: list[Exception] = []

        def guarded(operation: Operation, value: Any) -> None:
            try:
                listener(operation, value)
            except Exception as error:
                failed.append(error)  # the model's code may catch it, or raise another error after it
                raise

        try:
            runner.run(image.values, self._opened, guarded)
        except Exception as error:
            if failed:
                raise failed[0] from None
            if isinstance(error, SurgeryError):
                raise
            raise ImageError(f"the model does not take it: {first_line(error)}") from error
        if failed:
            raise failed[0]

    def _maps(self, operation: Operation, value: Any) -> Tensor | None:
        """Return a value of floats as maps ``(C, H, W)`` of one image; None for another value."""
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel() or value.ndim < 2:
            return None
        view = self._setup.views.get(operation.path)
        if view is None:
            return None
        maps = view(value.detach())
        maps = maps if maps.dtype in (torch.float32, torch.float64) else maps.float()
        return maps[0] if len(maps) == 1 else None

    def _gather_input(self, image: StudyImage) -> None:
        main = image.values[image.repeated[0]]
        if isinstance(main, Tensor) and main.ndim == 4 and main.is_floating_point() and main.numel():
            numbers = self.numbers.setdefault(INPUT, OperationNumbers(Operation(INPUT, INPUT, INPUT, 0)))
            numbers.add(main[0], with_similarity=True)

    def _gather(self, operation: Operation, maps: Tensor) -> None:
        numbers = self.numbers.setdefault(operation.path, OperationNumbers(operation))
        numbers.add(maps, with_similarity="similarity" in self._passes)
        for name, measure in self._measures_for(operation).items():
            found = apply_measure(measure, maps[None], name)[0].numpy()
            numbers.means.setdefault(name, MeanNumbers()).add(found)

    def _measures_for(self, operation: Operation) -> Mapping[str, Measure]:
        if operation.path not in self._fitted:
            measured = self._measured.get(operation.path) or MeasuredOperation(operation)
            fitted = {name: fit_measure(name, measure, measured) for name, measure in self._measures.items()}
            self._fitted[operation.path] = {name: each for name, each in fitted.items() if each is not None}
        return self._fitted[operation.path]
