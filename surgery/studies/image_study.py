"""The study of one image: the effect of each unit, and pictures of the units with the largest effects."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from surgery.graph import named_tensors
from surgery.layouts import MapView
from surgery.rewriting import insert
from surgery.studies.effects import Effect, OutputComparison, find_image_range
from surgery.studies.regions import fit_region
from surgery.studies.unit_pictures import ImagePictures, UnitPicture

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from surgery.studies.study import Order
    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.unit_runs import UnitRuns
    from surgery.studies.variant_runs import VariantRunner
    from surgery.studies.variants import Unit
    from surgery.types import Operation


class ImageStudy:
    """Compares the outputs of all units on one image with the original output."""

    def __init__(self, image: StudyImage, value_range: tuple[float, float], region: Tensor | None, top: int) -> None:
        """`value_range` is black and white of an image; `region` has the shares of what is asked about.

        The outputs of the `top` units with the largest effects are kept.
        """
        self._image = image
        self._value_range = value_range
        self._region = region
        self._top = top
        self._best: list[tuple[float, int, UnitPicture]] = []
        """A heap: the smallest of the kept ranks first."""
        self._comparison: OutputComparison
        self._original: Tensor
        self._mask: Tensor | None = None
        self._image_range: tuple[float, float] | None = None
        self.effects: dict[Unit, Effect] = {}

    def run(self, runs: UnitRuns, on_unit: Callable[[Unit], None]) -> None:
        """Run all units. `on_unit` is called after each."""

        def consume(unit: Unit, output: Tensor) -> None:
            effect = self.effects[unit] = self._comparison.measure(output)
            self._keep(unit, effect, output)
            on_unit(unit)

        runs.run(self._image, self.start, consume, kept_outputs=self._top)

    def pictures(self, order: Order, positions: Mapping[Unit, int], maps: Mapping[Unit, Tensor]) -> ImagePictures:
        """Return the pictures of the image, with its units in an order. `positions` are those in order of execution."""
        by_rank = sorted(self._best, key=lambda entry: (-entry[0], positions[entry[2].unit]))
        kept = [picture for _, _, picture in by_rank]
        if order == "execution":
            kept.sort(key=lambda picture: positions[picture.unit])
        units = tuple(
            UnitPicture(each.unit, each.effect, each.output, each.heat_map, maps.get(each.unit)) for each in kept
        )
        main = self._image.values[self._image.repeated[0]]
        return ImagePictures(
            self._image.name,
            main[0].detach().cpu(),
            self._original[0].detach().cpu() if self._original.ndim else self._original.cpu(),
            self._image_range,
            units,
            None if self._mask is None else self._mask.cpu(),
        )

    @property
    def kept_units(self) -> list[Unit]:
        """The units whose outputs are kept."""
        return [picture.unit for _, _, picture in self._best]

    def start(self, original: Tensor, width: int) -> None:  # noqa: ARG002
        """Take the original output, as a batch of `width` rows computes it."""
        self._original = original
        size = self._image.size
        self._image_range = find_image_range(original, self._value_range, size if len(size) == 2 else ())
        self._mask = None if self._region is None else fit_region(self._region, original)
        self._comparison = OutputComparison(original, self._image_range, self._mask)

    def rank(self, unit: Unit, effect: Effect, output: Tensor) -> float:  # noqa: ARG002
        """Return what decides which outputs are kept: those with the greatest ranks."""
        return effect.size

    def _keep(self, unit: Unit, effect: Effect, output: Tensor) -> None:
        number = -len(self.effects)  # of equal ranks, the first ones are kept
        rank = self.rank(unit, effect, output)
        if self._top == 0 or (len(self._best) == self._top and (rank, number) <= self._best[0][:2]):
            return
        row = output[0] if output.ndim else output
        picture = UnitPicture(unit, effect, row.detach().cpu().clone(), self._comparison.heat_map(output))
        push = heapq.heappush if len(self._best) < self._top else heapq.heapreplace
        push(self._best, (rank, number, picture))


def read_channel_maps(
    runner: VariantRunner, image: StudyImage, units: Sequence[Unit], views: Mapping[str, MapView]
) -> dict[Unit, Tensor]:
    """Return the maps ``(C, H, W)`` of the channels of units, as one run on the image computes them, on the CPU."""
    wanted = [unit for unit in units if unit.channels is not None]
    if not wanted:
        return {}
    chosen: dict[str, Operation] = {unit.operations[0].path: unit.operations[0] for unit in wanted}
    opened = insert(runner.traced, [*chosen.values()])
    maps: dict[Unit, Tensor] = {}

    def keep(operation: Operation, value: Any) -> None:
        for _, tensor in list(named_tensors(value))[:1]:
            shown = views.get(operation.path, MapView())(tensor.detach())[0]
            for unit in wanted:
                if unit.operations[0].path == operation.path and unit.channels is not None:
                    first, last = unit.channels
                    maps[unit] = shown[first : last + 1].to("cpu", torch.float32, copy=True)

    runner.run(image.values, opened, keep)
    return maps
