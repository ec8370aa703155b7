"""`diagnose`: what is wrong inside a model, and at which operation it begins."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from surgery.diagnosis.diagnosis_files import write_pictures
from surgery.diagnosis.findings import Findings
from surgery.diagnosis.measured_runs import INPUT, PASSES, MeasuredRuns
from surgery.diagnosis.result import Diagnosis, DiagnosisRow
from surgery.diagnosis.thresholds import merge_thresholds, reduce_numbers
from surgery.editing import edit_texts
from surgery.errors import MeasureError
from surgery.extraction import StageResolver
from surgery.graph import find_edges, operations
from surgery.output import Progress, format_notes
from surgery.rewriting import ALL_OPERATIONS
from surgery.studies import DEFAULT_MEMORY, ImageLoop, RunArguments, StudiedImage, StudySetup, open_study_folder

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import Tensor, nn

    from surgery.diagnosis.channel_numbers import Numbers, OperationNumbers
    from surgery.editing import EditRecipe
    from surgery.extraction import Mode
    from surgery.graph import FrontEnd
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.layouts import RequestedLayouts
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Measure, Reader
    from surgery.studies import StudyImage

DEFAULT_MEASURES = (
    *("not-finite", "dead", "constant", "sparsity", "saturated", "outliers", "rank", "mode-gap"),
    *("checkerboard", "overlap", "grid", "aliasing", "similarity", "drift", "noise"),
)


def diagnose(
    model: nn.Module,
    images: FilePatterns | Tensor = (),
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    measures: Measure | str | Sequence[Measure | str] = DEFAULT_MEASURES,
    thresholds: Mapping[str, float | None] = MappingProxyType({}),
    edits: EditRecipe = (),
    reference: FilePatterns = (),
    layout: RequestedLayouts = None,
    inputs: Mapping[str, Any] = MappingProxyType({}),
    reader: Reader | str | None = None,
    readers: Mapping[str, Reader | str] = MappingProxyType({}),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] | None = None,  # noqa: A002
    device: str | torch.device = "cpu",
    mode: Mode = "eval",
    seed: int = 0,
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    front_end: FrontEnd | Literal["auto"] = "auto",
    source: str | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    plugins: Plugins | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Diagnosis:
    """Measure the operations of a model, and name those at which something goes wrong.

    - `model`: The model, which stays as it is.
    - `images`: Files as `surgery.extract` takes them, or a tensor ``(B, ...)`` with a row for each image. Similarity
      and drift need two or more.
    - `at`: Which operations, as in `surgery.ablate`.
    - `measures`: Measures as in `surgery.extract`, and ``similarity`` of the maps of different images, ``drift`` of
      their range, ``noise``, the share of the variance that random numbers make, and ``equivariance``, how well the
      maps follow a shift of the image, which takes another run of each.
    - `thresholds`: From which number on a measure is a finding; None for never. `surgery.diagnosis.THRESHOLDS` has
      those that are not given.
    - `edits`, `reference`: What is changed in the model first, as in `surgery.extract`.
    - `layout`, `inputs`, `reader`, `readers`, `size`, `side`, `range`: How images are read, as in `surgery.ablate`.
    - `device`, `mode`, `seed`, `leaves`, `allow`, `front_end`, `source`, `plugins`: As in `surgery.extract`. A model
      that draws random numbers runs twice on each image, the second time with the next seed.
    - `out`, `overwrite`: A folder for the files, as in `surgery.extract`: plots of each measure over depth, a sheet of
      the worst channels, ``diagnosis.json`` and ``diagnosis.csv``, and the manifest. Without it, no file is written.
    - `progress`: Called after each image.

    A finding is at the operation where a number first passes its threshold; operations that pass it on have none. The
    numbers of channels are means over the images.

    An image that can't be read, or that the model can't take, is skipped and listed in `failed`. Ctrl-C ends the
    diagnosis; what was measured until then is returned. Raises SelectionError if a selection matches nothing, and
    MeasureError for a measure that fails, for thresholds of measures that are not taken, and for a measure that
    compares images if there is one.
    """
    started = time.perf_counter()
    given = [measures] if isinstance(measures, str) or callable(measures) else list(measures)
    passes = frozenset(name for name in given if isinstance(name, str) and name in PASSES)
    named = StageResolver(plugins).measures([each for each in given if not isinstance(each, str) or each not in PASSES])
    readings = _readings(named, [name for name in PASSES if name in passes])
    if not readings:
        raise MeasureError("a diagnosis needs a measure, such as 'checkerboard'")
    limits = merge_thresholds(thresholds, list(readings))
    arguments = RunArguments(
        inputs=inputs,
        reader=reader,
        readers=readers,
        size=size,
        side=side,
        range=range,
        batch=1,
        memory=DEFAULT_MEMORY,
        device=device,
        mode=mode,
        seed=seed,
        leaves=leaves,
        allow=allow,
        front_end=front_end,
        layout=layout,
        source=source,
        plugins=plugins,
    )
    setup = StudySetup(model, images, at, arguments, edits=edits, reference=reference)
    if setup.inputs.total < 2 and given != list(DEFAULT_MEASURES) and (alone := passes & {"similarity", "drift"}):
        raise MeasureError(f"{min(alone)} compares images, and there is one; give two or more")
    runs = MeasuredRuns(setup, named, passes)
    loop = ImageLoop(setup.inputs, (), None)
    first: list[StudyImage] = []
    settings = {"study": "diagnosis", "at": setup.selection, "measures": list(readings), "thresholds": limits}
    settings |= {"edits": edit_texts(edits, plugins)} if edits else {}

    with open_study_folder(out, setup, settings, overwrite=overwrite) as folder:

        def study(image: StudyImage, _: object) -> StudiedImage:
            runs.run(image)
            first[:] = first or [image]
            if progress is not None:
                progress(Progress(image.number + 1, 0, setup.inputs.total, image.name))
            write = (lambda: None) if folder is None else partial(folder.finish_image, image, {}, {})
            return StudiedImage({}, write)

        loop.run(study)
        rows = tuple(row for each in runs.numbers.values() for row in _rows(each, passes))
        sources = _find_operands(setup.traced, frozenset(runs.numbers))
        upsampling = frozenset(path for path in runs.numbers if runs.upsamples(path))
        result = Diagnosis(
            model=source or type(setup.original).__name__,
            rows=rows,
            findings=Findings(rows, runs.numbers, sources, upsampling).find(limits),
            readings=readings,
            thresholds=limits,
            images=tuple(loop.effects),
            failed=tuple(loop.failures),
            notes=_notes(setup, passes, len(loop.effects)),
            seconds=time.perf_counter() - started,
            folder=None if folder is None else folder.path,
            interrupted=loop.interrupted,
        )
        if folder is not None:
            result = replace(result, sheet=write_pictures(folder, result, runs, first[0]))
            folder.finish("diagnosis", result.content(settings), result.records(), loop)
    if loop.error is not None:
        raise loop.error
    return result


def _readings(measures: Mapping[str, Measure], passes: Sequence[str]) -> dict[str, str]:
    """Return the unit of each measure, and how to read it."""
    told = {
        name: [str(getattr(measure, part, "")) for part in ("unit", "reading")] for name, measure in measures.items()
    }
    texts = {**told, **{name: list(PASSES[name]) for name in passes}}
    return {name: ": ".join(filter(None, parts)) for name, parts in texts.items()}


def _rows(numbers: OperationNumbers, passes: frozenset[str]) -> Iterator[DiagnosisRow]:
    """Yield the rows of an operation: those of measures, then those of comparisons between images and runs."""
    for name, means in numbers.means.items():
        yield from _row(numbers, name, means.numbers())
    similarity = numbers.similarity.numbers() if "similarity" in passes else None
    if similarity is not None:
        yield from _row(numbers, "similarity", similarity)
    if "drift" in passes:
        yield from _row(numbers, "drift", np.full(1, numbers.drift))
    if "equivariance" in passes:
        levels, whole = numbers.equivariance.numbers()
        yield from _row(numbers, "equivariance", levels, whole)
    if "noise" in passes:
        shares, whole = numbers.noise.numbers()
        yield from _row(numbers, "noise", shares, whole)


def _row(
    numbers: OperationNumbers, name: str, of_channels: Numbers, whole: float | None = None
) -> Iterator[DiagnosisRow]:
    number, reduction, channel = reduce_numbers(name, of_channels)
    number = number if whole is None else whole
    if not math.isnan(number):
        yield DiagnosisRow(numbers.operation, name, number, reduction, of_channels, channel)


def _find_operands(traced: nn.Module, known: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return for each operation the nearest ones before it that were measured, by path; ``input`` is one of them."""
    edges = find_edges(traced)
    nearest: dict[str, tuple[str, ...]] = {}
    for operation in operations(traced):
        found: list[str] = []
        for source in edges.operands.get(operation.name, ()):
            if source.kind == "input":
                found += [INPUT]
            elif source.kind == "operation":
                found += [source.path] if source.path in known else nearest.get(source.path, ())
        nearest[operation.path] = tuple(dict.fromkeys(found))
    return nearest


def _notes(setup: StudySetup, passes: frozenset[str], images: int) -> tuple[str, ...]:
    """Return what there is to know about the results, a line each."""
    notes = [*setup.notes_on_model(), *format_notes(setup.inputs.notes)]
    if images < 2 and passes & {"similarity", "drift"}:
        notes.append("one image tells nothing of similarity and drift between images; give several")
    if setup.runner.draws_random_numbers:
        notes.append(f"the model draws random numbers, from the seed {setup.arguments.seed}")
    return tuple(dict.fromkeys(notes))
