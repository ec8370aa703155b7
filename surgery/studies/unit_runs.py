"""Runs of all units of a study on one image, in batches that the memory allows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.errors import EditError, ImageError, ModelError, SurgeryError, first_line
from surgery.studies.effects import main_output
from surgery.studies.memory_limits import find_width, tensor_bytes
from surgery.studies.row_independence import find_batchable
from surgery.studies.variant_runs import PointRuns, repeat_inputs
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from surgery.studies.study_inputs import StudyImage
    from surgery.studies.variant_runs import VariantRunner
    from surgery.studies.variants import Unit, UnitGroup


class UnitRuns:
    """Runs a model on images, once for each unit of a study.

    Units of one point share batches, of at most `batch` and as many as `memory` bytes allow, if the entries of a batch
    are independent of each other. The last batch of a point is as large as its others. `notes` says what was decided,
    and which units were left out.
    """

    def __init__(self, runner: VariantRunner, groups: Sequence[UnitGroup], batch: int, memory: int) -> None:
        self._runner = runner
        self._groups = groups
        self._batch = batch
        self._memory = memory
        self._batchable: frozenset[str] | None = None
        self._reads_numbers = False
        self._decisions: list[str] = []
        self._left_out: dict[str, list[str]] = {}
        """By a line that says which units were left out and why: the names of the images."""
        whole = [group for group in groups if group.point.cut is None]
        if whole:
            reason = "the model is observed" if len(whole) == len(groups) else "they can't be cut there"
            self._decisions.append(f"variants run as a whole, not from the edit on: {reason}")

    @property
    def notes(self) -> list[str]:
        """How the variants ran, and which were left out, a line each."""
        left_out = (f"left out on {abbreviate_list(images)}: {line}" for line, images in self._left_out.items())
        return [*self._decisions, *left_out]

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
        many outputs the caller keeps copies. A unit whose edit does not fit, with which the model fails, or for whose
        output `consume` raises ImageError, is left out.

        Raises ModelError if the model has no output to compare, or if one variant needs more than the memory,
        ImageError if the output for this image has no values, and EditError or ImageError if no unit is left.
        """
        output, meter = self._runner.measure(image.values)
        found = main_output(output)
        if found is None:
            raise ModelError("the output of the model has no tensor, so there is nothing to compare")
        if found[1].numel() == 0:
            raise ImageError(f"the output {tuple(found[1].shape)} has no values, so there is nothing to compare")
        self._reads_numbers |= meter.reads_numbers
        peak = meter.peak + 2 * tensor_bytes(image.values)
        fixed = tensor_bytes(found[1]) * (2 * kept_outputs + _MEASURING)
        del output, found, meter
        failures: dict[Unit, SurgeryError] = {}

        def fail(unit: Unit, error: Exception) -> None:
            # A new error: the traceback of this one holds the values of the run.
            if isinstance(error, (EditError, ImageError)):
                failures[unit] = type(error)(str(error))
            else:
                failures[unit] = ImageError(f"the model fails: {type(error).__name__}: {first_line(error)}")

        by_width: dict[int, list[UnitGroup]] = {}
        for group in self._groups:
            by_width.setdefault(self._width(group, image, peak, fixed), []).append(group)
        for width, groups in sorted(by_width.items()):
            values = repeat_inputs(image.values, image.repeated, width)
            start(self.row_output(image, width), width)
            points = [
                PointRuns(
                    group.point,
                    group.variants,
                    partial(_consume_rows, group.units, width, consume, fail),
                    partial(_fail_unit, group.units, fail),
                )
                for group in groups
            ]
            self._runner.run_points(values, points, width)
        self._leave_out(image, failures)

    def row_output(self, image: StudyImage, width: int) -> Tensor:
        """Return the original output ``(1, ...)`` of an image, as a batch of `width` rows computes it.

        Raises ImageError if the model does not take it.
        """
        output = self._runner.run_original(repeat_inputs(image.values, image.repeated, width))
        return _row(output, 0, width).clone()  # not a view of the whole batch

    def _leave_out(self, image: StudyImage, failures: Mapping[Unit, SurgeryError]) -> None:
        """Note the units that failed, and why. Raise the first error if all did."""
        labels: dict[str, list[str]] = {}
        for unit, error in failures.items():
            labels.setdefault(str(error), []).append(unit.label)
        is_edit = {str(error): isinstance(error, EditError) for error in failures.values()}  # which names the operation
        lines = {
            reason: reason if is_edit[reason] else f"{abbreviate_list(labels[reason])}: {reason}" for reason in labels
        }
        if failures and len(failures) == sum(len(group.units) for group in self._groups):
            reason, line = next(iter(lines.items()))
            raise (EditError if is_edit[reason] else ImageError)(line)
        for line in lines.values():
            self._left_out.setdefault(line, []).append(image.name)

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
        reason: str | None = _READS_NUMBERS
        batchable: frozenset[str] = frozenset()
        if not self._reads_numbers:
            reason, batchable = find_batchable(self._runner, image.values, image.repeated, [*chosen.values()], views)
        if reason is not None:
            self._decisions.append(f"variants run one at a time: {reason}")
        elif missing := [path for path in chosen if path not in batchable]:
            self._decisions.append(f"variants of {missing[0]} run one at a time: its value has no entry for each image")
        return batchable


_READS_NUMBERS = "the model reads numbers out of tensors, and may decide for a whole batch by them"
_MEASURING = 40
"""Outputs of one row that are held while one of them is measured: local means and products, in greater precision."""


def _consume_rows(
    units: Sequence[Unit],
    width: int,
    consume: Callable[[Unit, Tensor], None],
    fail: Callable[[Unit, Exception], None],
    numbers: range,
    output: Any,
) -> None:
    for row, number in enumerate(numbers):
        try:
            consume(units[number], _row(output, row, width))
        except ImageError as error:
            fail(units[number], error)


def _fail_unit(units: Sequence[Unit], fail: Callable[[Unit, Exception], None], number: int, error: Exception) -> None:
    fail(units[number], error)


def _row(output: Any, row: int, width: int) -> Tensor:
    """Return what one of the `width` rows of a batch has in the output that is compared: ``(1, ...)``, or more rows.

    Raises ImageError for an output that has not the same for each of them.
    """
    found = main_output(output)
    if found is None:
        raise ImageError("the edited model returns no tensor, so there is nothing to compare")
    if width == 1:
        return found[1]
    count, rest = divmod(len(found[1]), width) if found[1].ndim else (0, 1)
    if rest:
        raise ImageError(f"the output of {width} variants is {tuple(found[1].shape)}, which is not the same for each")
    return found[1].narrow(0, row * count, count)
