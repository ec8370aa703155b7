"""The measures of all operations and runs, collected image by image."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from surgery.comparison.own_differences import NOTHING
from surgery.comparison.pair_measures import PairMeasures, as_real, mean_and_worst, measure_pair, paired_tensors
from surgery.comparison.row_sums import ratio, square_distance
from surgery.comparison.run_comparison import ComparedOperation
from surgery.comparison.similarity import MIN_IMAGES, LinearCka
from surgery.graph import named_tensors
from surgery.layouts import MapView, find_map_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from surgery.comparison.runs import PreparedRun
    from surgery.comparison.side_by_side import StepValues
    from surgery.types import Operation


@dataclass(slots=True)
class _Entry:
    """What is known about an operation in one other run."""

    measured: list[PairMeasures] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    inherited: list[float] = field(default_factory=list)
    cka: LinearCka = field(default_factory=LinearCka)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured of an operation in one other run on one image."""

    measures: PairMeasures | None = None
    own: float | None = None
    inherited: float | None = None
    maps: tuple[Tensor, Tensor] | None = None
    reason: str = ""


class PairTable:
    """Measures the values of each step, and keeps what was measured on images that were finished."""

    def __init__(
        self,
        runs: Sequence[PreparedRun],
        chosen: Sequence[Operation],
        counterparts: Sequence[Mapping[str, Operation]],
        images: int,
    ) -> None:
        """`images` is their number: of too few, no similarity is computed."""
        self._has_similarity = images >= MIN_IMAGES
        self._runs = runs
        self._chosen = chosen
        self._counterparts = counterparts
        self.views: list[Mapping[str, MapView]] = [find_map_views(runs[0].model, chosen)]
        """For each run, how the values of operations are read as maps, by the paths that these have there."""
        for run, each in zip(runs[1:], counterparts, strict=True):
            self.views.append(find_map_views(run.model, [each[o.path] for o in chosen if o.path in each]))
        self._entries: defaultdict[tuple[str, str], _Entry] = defaultdict(_Entry)
        self._pending: dict[tuple[str, str], _Measured] = {}

    def maps(self, place: int, operation: Operation, value: Tensor) -> Tensor:
        """Return a value of a run as maps ``(B, C, H, W)``. `operation` is that of the first run."""
        path = operation.path if place == 0 else self._counterparts[place - 1][operation.path].path
        return self.views[place].get(path, MapView())(value)

    def add(self, step: StepValues) -> None:
        """Measure the values of an operation."""
        first = step.values[0]
        for place, run in enumerate(self._runs[1:], 1):
            if step.operation.path in self._counterparts[place - 1]:
                self._pending[step.operation.path, run.name] = self._measure(step, place, first)

    def finish_image(self) -> None:
        """Keep what was measured since the last image."""
        for key, found in self._pending.items():
            entry = self._entries[key]
            if found.measures is not None:
                entry.measured.append(found.measures)
            if found.own is not None and found.inherited is not None:
                entry.own.append(found.own)
                entry.inherited.append(found.inherited)
            if found.maps is not None:
                entry.cka.add(*found.maps)
            entry.reason = entry.reason or found.reason
        self._pending = {}

    def drop_image(self) -> None:
        """Forget what was measured since the last image."""
        self._pending = {}

    def rows(self) -> Iterator[ComparedOperation]:
        """Yield the rows of the table."""
        for operation in self._chosen:
            for run, counterparts in zip(self._runs[1:], self._counterparts, strict=True):
                counterpart = counterparts.get(operation.path)
                if counterpart is None:
                    yield ComparedOperation(operation, run.name, None, reason="no counterpart")
                    continue
                entry = self._entries[operation.path, run.name]
                mean, worst = mean_and_worst(entry.measured) if entry.measured else (None, None)
                yield ComparedOperation(
                    operation,
                    run.name,
                    counterpart.path,
                    mean,
                    worst,
                    _root_mean_square(entry.own),
                    _root_mean_square(entry.inherited),
                    entry.cka.value(),
                    entry.reason,
                )

    def _measure(self, step: StepValues, place: int, first: Any) -> _Measured:
        second = step.values[place]
        if first is None or second is None:
            return _Measured(reason=f"not reached in {self._runs[0 if first is None else place].name}")
        maps = None
        is_tensor = isinstance(first, Tensor) and isinstance(second, Tensor)
        if self._has_similarity and is_tensor and first.is_floating_point():
            maps = tuple(
                self.maps(each, step.operation, value).float() for each, value in ((0, first), (place, second))
            )
        pairs = paired_tensors(first, second)
        if isinstance(pairs, str):
            return _Measured(maps=maps, reason=pairs)  # type: ignore[arg-type]
        measured = [
            measure_pair(one, other, lambda tensor: _channels(self, step.operation, tensor)) for _, one, other in pairs
        ]
        own, inherited = _split(step, place, first, second, measured)
        return _Measured(_join(measured), own, inherited, maps)  # type: ignore[arg-type]


def _channels(table: PairTable, operation: Operation, tensor: Tensor) -> Tensor:
    return table.maps(0, operation, tensor) if tensor.ndim else tensor.reshape(1, 1, 1, 1)


def _join(measured: Sequence[PairMeasures]) -> PairMeasures | None:
    """Return the measures of a value with several tensors: the worst of each."""
    if not measured:
        return None
    return measured[0] if len(measured) == 1 else mean_and_worst(measured)[1]


def _split(
    step: StepValues, place: int, first: Any, second: Any, measured: Sequence[PairMeasures]
) -> tuple[float | None, float | None]:
    """Return the relative differences that an operation adds, and that it inherits; None for each if not known."""
    own = step.own[place]
    total = _join(measured)
    if total is None:
        return None, None
    if step.same_inputs[place]:
        return total.relative, 0.0
    if own is NOTHING:
        return 0.0, total.relative
    if own is None or isinstance(paired_tensors(first, own), str):
        return None, None
    tensors = zip(*(_tensors(value) for value in (first, second, own)), strict=True)
    shares = [_shares(*each) for each in tensors]
    return max(own for own, _ in shares), max(inherited for _, inherited in shares)


def _tensors(value: Any) -> list[Tensor]:
    return [as_real(tensor) for _, tensor in named_tensors(value)]


def _shares(first: Tensor, second: Tensor, own: Tensor) -> tuple[float, float]:
    norm = float(torch.linalg.vector_norm(first, dtype=torch.float64))
    return tuple(ratio(math.sqrt(square_distance(one, other)), norm) for one, other in ((own, first), (second, own)))  # type: ignore[return-value]


def _root_mean_square(values: Sequence[float]) -> float | None:
    return math.sqrt(sum(value**2 for value in values) / len(values)) if values else None
