"""The numbers of measures beside the activations of a run, computed while the values are there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.drawing import apply_measure, fit_measure, read_maps
from surgery.extraction.measured_operations import find_measured_operations
from surgery.stages import MeasuredOperation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import nn

    from surgery.stages import Measure
    from surgery.types import Activation, Operation


class Measuring:
    """Adds to activations of a rewritten model what measures say of them."""

    def __init__(self, measures: Mapping[str, Measure], rewritten: nn.Module) -> None:
        self._measures = measures
        self._operations = find_measured_operations(rewritten) if measures else {}
        self._fitted: dict[str, dict[str, Measure]] = {}
        """For each path, the measures that say something about this operation, by name."""

    def add(self, activations: Iterable[Activation]) -> Iterator[Activation]:
        """Yield the activations with their numbers, ``(C,)`` or ``(1,)`` for each measure.

        A measure that is not for this operation has no numbers. Raises MeasureError if one fails.
        """
        if not self._measures:
            yield from activations
            return
        for activation in activations:
            measures = self._measures_for(activation.operation)
            maps = read_maps(activation) if measures else None
            if maps is None or not maps.numel():
                yield activation
                continue
            numbers = {name: apply_measure(each, maps, name)[0].numpy() for name, each in measures.items()}
            yield replace(activation, measures=numbers)

    def _measures_for(self, operation: Operation) -> Mapping[str, Measure]:
        if operation.path not in self._fitted:
            measured = self._operations.get(operation.path) or MeasuredOperation(operation)
            fitted = {name: fit_measure(name, measure, measured) for name, measure in self._measures.items()}
            self._fitted[operation.path] = {name: each for name, each in fitted.items() if each is not None}
        return self._fitted[operation.path]


def describe_measures(measures: Mapping[str, Measure]) -> dict[str, dict[str, str]]:
    """Return what the numbers of measures are and how to read them, for the manifest."""
    names = ("unit", "reading")
    return {
        measure: {name: str(getattr(value, name)) for name in names if getattr(value, name, "")}
        for measure, value in measures.items()
    }
