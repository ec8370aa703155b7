"""The preparation of a comparison: models are loaded and traced, and their operations aligned."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from surgery.comparison.alignment import align as align_operations
from surgery.comparison.run_names import name_runs
from surgery.comparison.runs import PreparedRun, Run, load_run_model
from surgery.comparison.weight_store import WeightStore
from surgery.errors import ImageError, ModelError
from surgery.extraction import copy_for_run
from surgery.graph import Operations, find_edges
from surgery.models import get_provenance
from surgery.rewriting import EDIT, select_all
from surgery.studies import StudyInputs
from surgery.text import abbreviate_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    from surgery.comparison.alignment import Alignment
    from surgery.comparison.side_by_side import SideBySide
    from surgery.inputs import FilePatterns
    from surgery.output import Failure
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.studies import ReadingArguments, StudyImage


class CompareSetup:
    """The runs of a comparison, their images, and which operations correspond."""

    def __init__(
        self,
        runs: Sequence[Run | nn.Module | str],
        images: FilePatterns | Tensor,
        at: Selection | str | Sequence[Selection | str],
        align: Mapping[str, str],
        reading: ReadingArguments,
        tracing: Mapping[str, Any],
        plugins: Plugins | None,
    ) -> None:
        """Raises what `surgery.compare` raises for its arguments of these names."""
        given = [run if isinstance(run, Run) else Run(run) for run in runs]
        if len(given) < 2:
            raise ModelError(f"a comparison takes at least 2 runs, not {len(given)}")
        self.described = [run.describe(plugins) for run in given]
        """What each run is, in words."""
        names = name_runs(given, plugins)
        store = WeightStore()
        given = [
            replace(run, model=load_run_model(run, plugins, store), name=name)
            for run, name in zip(given, names, strict=True)
        ]
        first_images = images if _is_empty(given[0].images) else given[0].images
        self.inputs = _find_inputs(given[0], first_images, reading)
        """The images of the first run, and of those without images of their own."""
        self._own_inputs = {
            place: _find_inputs(run, run.images, reading)
            for place, run in enumerate(given)
            if place and not _is_empty(run.images)
        }
        totals = [self._own_inputs.get(place, self.inputs).total for place in range(len(given))]
        if len(set(totals)) > 1:
            raise ImageError(f"the runs have {', '.join(map(str, totals))} images; give each as many")
        example = self.inputs.example()
        self.runs: list[PreparedRun] = []
        for run in given:
            self.runs.append(PreparedRun(run, example, tracing, plugins, self.runs))
        self.names = [run.name for run in self.runs]
        self.tracing = tracing
        selections: Sequence[Selection | str] = at if isinstance(at, (list, tuple)) else [at]  # type: ignore[list-item]
        self.selection = ", ".join(map(str, selections))
        """The selections as text."""
        first = self.runs[0]
        selected = select_all(first.model, selections)
        self.chosen = Operations(each for each in selected if each.tensors != ())
        self.chosen.matches = selected.matches
        """The selected operations of the first run that compute tensors."""
        self.alignments = [_align(first, run, align) for run in self.runs[1:]]
        self.counterparts = [
            {one.path: run.edited(other) for one, other in each.pairs}
            for run, each in zip(self.runs[1:], self.alignments, strict=True)
        ]
        """For each other run, the operations that correspond to those of the first one, by path."""

    def images(self) -> Iterator[tuple[StudyImage, ...]]:
        """Yield an image for each run. Those that one run can't read are left out."""
        others = {place: iter(inputs) for place, inputs in self._own_inputs.items()}
        heads: dict[int, StudyImage | None] = {place: next(images, None) for place, images in others.items()}
        for image in self.inputs:
            for place, images in others.items():
                while (head := heads[place]) is not None and head.number < image.number:
                    heads[place] = next(images, None)
            parts = [heads.get(place, image) for place in range(len(self.runs))]
            found = [part for part in parts if part is not None and part.number == image.number]
            if len(found) == len(parts):
                yield tuple(found)

    def failures(self) -> list[Failure]:
        """Return the images that could not be read."""
        return [failure for inputs in (self.inputs, *self._own_inputs.values()) for failure in inputs.failures]

    def unmatched(self) -> dict[str, str]:
        """Return what has no counterpart as text, for the runs that do not match wholly."""
        pairs = zip(self.runs[1:], self.alignments, strict=True)
        return {run.name: text for run, each in pairs if (text := each.describe())}

    def notes(self, beside: SideBySide) -> Iterator[str]:
        """Yield what there is to know about the results, a line each."""
        for run in self.runs:
            if run.trace.note:
                yield f"{run.name}: {run.trace.note}"
            yield from get_provenance(run.original).notes_on_random_weights(run.original, run.name)
        for run, alignment in zip(self.runs[1:], self.alignments, strict=True):
            if text := alignment.describe_ambiguity():
                yield f"{run.name}: {text}"
        drawing = [run for run in self.runs if run.name in beside.drawing]
        if drawing:
            seeds = sorted({run.run.seed for run in drawing})
            where = ", ".join(run.name for run in drawing)
            text = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
            yield f"random numbers are drawn in {where}: for each image from the {text}"
        for name, paths in beside.new.items():
            if paths:
                shown = abbreviate_list(list(paths), 4)
                yield f"{name}: operations that the first image does not have are not compared: {shown}"
        unknown = [run.name for run, known in zip(self.runs[1:], beside.knows_own, strict=True) if not known]
        if unknown:
            yield f"own differences take graphs that run operation by operation; not known for {', '.join(unknown)}"


def _align(first: PreparedRun, other: PreparedRun, names: Mapping[str, str]) -> Alignment:
    """Align the operations of two models, without the edited values."""
    edges = find_edges(first.model), find_edges(other.model)
    return align_operations(
        [operation for operation in first.operations if operation.kind != EDIT],
        [operation for operation in other.operations if operation.kind != EDIT],
        edges,
        names,
    )


def _is_empty(images: FilePatterns | Tensor) -> bool:
    return not isinstance(images, Tensor) and not images


def _find_inputs(run: Run, images: FilePatterns | Tensor, reading: ReadingArguments) -> StudyInputs:
    original = run.module
    subject = copy_for_run(original, "as-is", "cpu")
    return StudyInputs.find(original, subject, images, reading, "cpu")
