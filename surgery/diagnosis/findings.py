"""What is past its threshold in the numbers of a model, and at which operation that begins."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from surgery.diagnosis.finding import Finding
from surgery.diagnosis.thresholds import LEAST_POSITIONS, reduce_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surgery.diagnosis.channel_numbers import Numbers, OperationNumbers
    from surgery.diagnosis.finding import Severity
    from surgery.diagnosis.result import DiagnosisRow

_SEVERITIES: Mapping[str, Severity] = {"not-finite": "severe", "similarity": "severe", "noise": "note"}
_ORDER = ("severe", "warning", "note")
_GROWTH = 1.25
"""How many times the number of its operands an operation has to have for it to add to them, and not to pass them on."""
_CHANCE = 1.5
"""A mean of n values is off by 1 / sqrt(n) deviations by chance; so many times as much is a gap between modes."""
_SPARSE = 0.9
"""A channel with a larger share of zeros has no outliers: what it does say stands out from the zeros."""
_PATTERNS = ("checkerboard", "periodic")
"""Measures of patterns that an upsampling adds."""
_OF_ONE_SIZE = (*_PATTERNS, "outliers")
"""Measures whose numbers are compared among maps of one size."""


class Findings:
    """Finds what is past its threshold, and where it begins."""

    def __init__(
        self,
        rows: Sequence[DiagnosisRow],
        numbers: Mapping[str, OperationNumbers],
        operands: Mapping[str, Sequence[str]],
        upsampling: frozenset[str],
    ) -> None:
        """`operands` are the measured operations that an operation's values come from, by path.

        `upsampling` are the paths of the operations that enlarge their maps.
        """
        self._rows = {(row.operation.path, row.measure): row for row in rows}
        self._numbers = numbers
        self._operands = operands
        self._upsampling = upsampling

    def find(self, thresholds: Mapping[str, float]) -> tuple[Finding, ...]:
        """Return the findings of all measures in order of execution, those of one operation with the worst first."""
        found = [finding for name, threshold in thresholds.items() for finding in self._find_of(name, threshold)]
        dead = {(each.operation.path, each.channels) for each in found if each.measure == "dead"}
        found = [
            each for each in found if each.measure != "constant" or (each.operation.path, each.channels) not in dead
        ]
        found.sort(key=lambda each: (each.operation.index, _ORDER.index(each.severity)))
        return tuple(replace(each, follows=self._find_cause(each, found, thresholds)) for each in found)

    def _find_of(self, measure: str, threshold: float) -> list[Finding]:
        found: list[Finding] = []
        for (path, name), row in self._rows.items():
            if name != measure or path == "input":
                continue
            numbers = self._meaningful_numbers(row)
            number = row.number if row.reduction == "whole" else reduce_numbers(measure, numbers)[0]
            if not self._is_past(row, number, threshold) or self._is_passed_on(row, number, threshold):
                continue
            reference = self._find_reference(row)
            found.append(
                Finding(
                    severity=_SEVERITIES.get(_base(row), "warning"),
                    measure=measure,
                    operation=row.operation,
                    channels=_worst_channels(row, numbers, threshold),
                    number=number,
                    threshold=threshold,
                    compared_with=None if reference is None else reference.operation.path,
                    compared_number=None if reference is None else reference.number,
                    is_first=not found,
                )
            )
        return found

    def _meaningful_numbers(self, row: DiagnosisRow) -> Numbers:
        """Return the numbers of channels without those that follow from another number of the same channel.

        The mean of a constant channel is not that of the data, and what a sparse channel says stands out from zeros.
        """
        path, numbers = row.operation.path, row.numbers
        other = {"mode-gap": ("constant", 1 - 1e-9), "outliers": ("sparsity", _SPARSE)}.get(_base(row))
        masking = None if other is None else self._rows.get((path, other[0]))
        if other is None or masking is None or masking.numbers.shape != numbers.shape:
            return numbers
        return np.where(masking.numbers >= other[1], np.nan, numbers)

    def _is_past(self, row: DiagnosisRow, number: float, threshold: float) -> bool:
        numbers, name = self._numbers[row.operation.path], _base(row)
        height, width = numbers.size
        positions = height * width if name in _PATTERNS else numbers.positions
        if positions < LEAST_POSITIONS.get(name, 0) or (name in ("dead", "constant") and height * width < 2):
            return False
        if name == "mode-gap":
            threshold = max(threshold, _CHANCE / math.sqrt(max(1, numbers.positions)))
        source = self._rows.get(("input", row.measure)) if name == "similarity" else None
        if source is not None and source.number > threshold:
            return False  # the images themselves are alike
        return abs(number) > threshold

    def _is_passed_on(self, row: DiagnosisRow, number: float, threshold: float) -> bool:
        """Whether the operands of an operation have its number already."""
        name = _base(row)
        if name in ("dead", "constant"):  # what is constant before a bias or a ReLU may be zero after it
            before = self._rows_before(row, "constant") or self._rows_before(row, row.measure)
            return number * row.numbers.size <= sum(each.number * each.numbers.size for each in before) + 1e-9
        largest = max((abs(each.number) for each in self._rows_before(row, row.measure)), default=0.0)
        if name in ("not-finite", "similarity", "noise"):
            return largest > threshold
        is_own = name == "saturated" or (name in _PATTERNS and row.operation.path in self._upsampling)
        return not is_own and abs(number) <= _GROWTH * largest

    def _rows_before(self, row: DiagnosisRow, measure: str) -> list[DiagnosisRow]:
        """Return the rows of the operands of an operation."""
        found = (self._rows.get((path, measure)) for path in self._operands.get(row.operation.path, ()))
        return [each for each in found if each is not None]

    def _find_reference(self, row: DiagnosisRow) -> DiagnosisRow | None:
        """Return what a number is compared with: that of the last operation before it; for a similarity, of the input.

        For a pattern it is one with maps of the same size, before any upsampling if there is one.
        """
        name, size = _base(row), self._numbers[row.operation.path].size
        before = [
            other
            for (path, measure), other in self._rows.items()
            if measure == row.measure and other.operation.index < row.operation.index
            if name not in _OF_ONE_SIZE or self._numbers[path].size == size
        ]
        if name in _PATTERNS:
            first = min((self._numbers[path].operation.index for path in self._upsampling), default=math.inf)
            before = [other for other in before if other.operation.index < first] or before
        if name == "similarity":
            before = before[:1]
        return before[-1] if before else None

    def _find_cause(self, finding: Finding, found: Sequence[Finding], thresholds: Mapping[str, float]) -> str | None:
        """Return the first operation before a finding at which the values, or what they say of the input, are lost.

        It is no cause if the operation of the finding has it again, as from a skip connection.
        """
        ancestors = self._find_ancestors(finding.operation.path)
        of_finding = {name: self._rows.get((finding.operation.path, name)) for name in ("not-finite", "similarity")}
        for cause in found:
            row = self._rows[cause.operation.path, cause.measure]
            is_lost = cause.measure in ("not-finite", "similarity") or (cause.measure == "constant" and row.number == 1)
            if not is_lost or cause.operation.path not in ancestors:
                continue
            name = "not-finite" if cause.measure == "not-finite" else "similarity"
            again = of_finding[name]
            if again is None or again.number > thresholds.get(name, 0.0):
                return cause.operation.path
        return None

    def _find_ancestors(self, path: str) -> set[str]:
        ancestors: set[str] = set()
        waiting = [path]
        while waiting:
            for source in self._operands.get(waiting.pop(), ()):
                if source not in ancestors:
                    ancestors.add(source)
                    waiting.append(source)
        return ancestors


def _base(row: DiagnosisRow) -> str:
    """Return the name of a row's measure without its options."""
    return row.measure.partition(":")[0]


def _worst_channels(row: DiagnosisRow, numbers: Numbers, threshold: float) -> tuple[int, ...]:
    """Return the channels past a threshold, the worst first."""
    if numbers.size < 2:
        return ()
    limit = 1 - 1e-9 if row.reduction == "always" else threshold
    past = sorted((-abs(number), channel) for channel, number in enumerate(numbers.tolist()) if abs(number) > limit)
    return tuple(channel for _, channel in past)
