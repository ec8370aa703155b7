"""Runs of all units of a study on one image, in batches that the memory allows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.errors import ImageError, ModelError
from surgery.studies.effects import main_output
from surgery.studies.memory_limits import find_width, tensor_bytes
from surgery.studies.row_independence import find_batchable
from surgery.studies.variant_runs import repeat_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.variant_runs import VariantRunner
    from surgery.studies.variants import Unit, UnitGroup


class UnitRuns:
    """Runs a model on images, once for each unit of a study.

    Units of one point share batches, of at most `batch` and as many as `memory` bytes allow, if the entries of a batch
    are independent of each other. The last batch of a point is as large as its others. `notes` says what was decided.
    """

    def __init__(self, runner: VariantRunner, groups: Sequence[UnitGroup], batch: int, memory: int) -> None:
        self._runner = runner
        self._groups = groups
        self._batch = batch
        self._memory = memory
        self._batchable: frozenset[str] | None = None
        self.notes: list[str] = []
        whole = [group for group in groups if group.point.cut is None]
        if whole:
            reason = "the model is observed" if len(whole) == len(groups) else "they can't be cut there"
            self.notes.append(f"variants run as a whole, not from the edit on: {reason}")

    def run(
        self,
        image: StudyImage,
        start: Callable[[Tensor, int], None],
        consume: Callable[[Unit, Tensor], None],
        kept_outputs: int = 0,
    ) -> None:
        """Run all units on one image.

        `start` is called with the original output ``(1, ...)`` and the size of a batch before `consume` is called with
        that of each unit, in any order. For another size of batch, `start` is called again. `kept_outputs` says of how
        many outputs the caller keeps copies.

        Raises ModelError if the model has no output to compare, or if one variant needs more than the memory, and
        ImageError if the output for this image has no values.
        """
        output, peak = self._runner.measure_memory(image.values)
        found = main_output(output)
        if found is None:
            raise ModelError("the output of the model has no tensor, so there is nothing to compare")
        if found[1].numel() == 0:
            raise ImageError(f"the output {tuple(found[1].shape)} has no values, so there is nothing to compare")
        peak += 2 * tensor_bytes(image.values)
        fixed = tensor_bytes(found[1]) * (2 * kept_outputs + _MEASURING)
        del output, found
        by_width: dict[int, list[UnitGroup]] = {}
        for group in self._groups:
            by_width.setdefault(self._width(group, image, peak, fixed), []).append(group)
        for width, groups in sorted(by_width.items()):
            values = repeat_inputs(image.values, image.repeated, width)
            start(self.row_output(image, width), width)
            points = [
                (group.point, group.variants, partial(_consume_rows, group.units, width, consume)) for group in groups
            ]
            self._runner.run_points(values, points, width)

    def row_output(self, image: StudyImage, width: int) -> Tensor:
        """Return the original output ``(1, ...)`` of an image, as a batch of `width` rows computes it."""
        output = self._runner.run(repeat_inputs(image.values, image.repeated, width))
        return _row(output, 0, width).clone()  # not a view of the whole batch

    def _width(self, group: UnitGroup, image: StudyImage, peak: int, fixed: int) -> int:
        """Return how many variants of a group share a batch: as few as give the least number of batches."""
        count = len(group.variants)
        largest = find_width(peak, fixed, min(count, self._batch), self._memory)
        if largest == 1:
            return 1
        if self._batchable is None:
            self._batchable = self._find_batchable(image)
        if any(operation.path not in self._batchable for operation in group.point.operations):
            return 1
        return -(-count // -(-count // largest))

    def _find_batchable(self, image: StudyImage) -> frozenset[str]:
        chosen = {each.path: each for group in self._groups for each in group.point.operations}
        views = {path: view for group in self._groups for path, view in group.views.items()}
        reason, batchable = find_batchable(self._runner, image.values, image.repeated, [*chosen.values()], views)
        if reason is not None:
            self.notes.append(f"variants run one at a time: {reason}")
        elif missing := [path for path in chosen if path not in batchable]:
            self.notes.append(f"variants of {missing[0]} run one at a time: its value has no entry for each image")
        return batchable


_MEASURING = 40
"""Outputs of one row that are held while one of them is measured: local means and products, in greater precision."""


def _consume_rows(
    units: Sequence[Unit], width: int, consume: Callable[[Unit, Tensor], None], first: int, output: Any
) -> None:
    for row, unit in enumerate(units[first : first + width]):
        consume(unit, _row(output, row, width))


def _row(output: Any, row: int, width: int) -> Tensor:
    """Return one row ``(1, ...)`` of the output that is compared; all of it for a batch of one."""
    found = main_output(output)
    if found is None:
        raise ModelError("the output of an edited model has no tensor, so there is nothing to compare")
    return found[1] if width == 1 else found[1].narrow(0, row, 1)
