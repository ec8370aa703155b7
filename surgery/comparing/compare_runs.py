"""`compare`: runs side by side, operation by operation."""

from __future__ import annotations

import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from surgery.comparing.alignment import align as align_operations
from surgery.comparing.pair_table import PairTable
from surgery.comparing.run_comparison import RunComparison
from surgery.comparing.run_names import name_runs
from surgery.comparing.runs import PreparedRun, Run, load_run_model
from surgery.comparing.side_by_side import SideBySide
from surgery.comparison import ReadingArguments, StudyInputs, check_size
from surgery.errors import ImageError, ModelError
from surgery.extraction import copy_for_run
from surgery.graph import find_edges
from surgery.models import get_provenance
from surgery.output import Failure, Progress
from surgery.rewriting import ALL_OPERATIONS, EDIT, select_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import nn

    from surgery.comparing.alignment import Alignment
    from surgery.comparing.side_by_side import StepValues
    from surgery.comparison import StudyImage
    from surgery.graph import FrontEnd
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Reader

DEFAULT_THRESHOLD = 1e-3
"""The relative difference above which an operation counts as changed, by default: what nobody sees in a picture."""


def compare(
    runs: Sequence[Run | nn.Module | str],
    images: FilePatterns | Tensor = (),
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    align: Mapping[str, str] = MappingProxyType({}),
    own: bool = True,
    threshold: float = DEFAULT_THRESHOLD,
    inputs: Mapping[str, Any] = MappingProxyType({}),
    reader: Reader | None = None,
    readers: Mapping[str, Reader] = MappingProxyType({}),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] | None = None,  # noqa: A002
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    front_end: FrontEnd | Literal["auto"] = "auto",
    plugins: Plugins | None = None,
    progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[StudyImage, StepValues], None] | None = None,
) -> RunComparison:
    """Run several models, modes, seeds, dtypes or edits on the same images, and compare them operation by operation.

    All runs advance from operation to operation beside each other, one image at a time, so that the values of one
    operation are compared while they are there. Each draws its random numbers as if it ran alone.

    - `runs`: Two or more: `surgery.Run`, or a model or the name of one. All are compared with the first.
    - `images`: Files as `surgery.extract` takes them, or a tensor ``(B, ...)`` with a row for each image.
    - `at`: Which operations of the first run.
    - `align`: Patterns of paths in the first model and in the others, ``{"down*": "enc*"}``. By default operations of
      the same path and kind correspond; where the models differ, those of a longest common subsequence do, by kind,
      shape and operands.
    - `own`: Whether operations are also evaluated on the inputs that they have in the first run, so that the difference
      that one adds is told from the difference that it passes on. This takes graphs.
    - `threshold`: The relative difference above which an operation counts as changed.
    - `inputs`, `reader`, `readers`, `size`, `side`, `range`, `leaves`, `allow`, `front_end`, `plugins`: As in
      `surgery.extract`.
    - `progress`: Called after each image.
    - `on_step`: Called with the values of each operation while they are there.

    Raises ModelError for fewer than two runs and for runs that can't have the same inputs, SelectionError for models
    that have no operation in common, and what `surgery.extract` raises for its arguments.
    """
    started = time.perf_counter()
    given = [run if isinstance(run, Run) else Run(run) for run in runs]
    if len(given) < 2:
        raise ModelError(f"a comparison takes at least 2 runs, not {len(given)}")
    given = [
        replace(run, model=load_run_model(run, plugins), name=name)
        for run, name in zip(given, name_runs(given, plugins), strict=True)
    ]
    reading = ReadingArguments(inputs, reader, readers, size, side, range)
    sources = [_find_inputs(run, images if _is_empty(run.images) else run.images, reading) for run in given]
    example = sources[0].example()
    tracing = {"leaves": leaves, "allow": allow, "front_end": front_end}
    prepared = [PreparedRun(run, example, tracing, plugins) for run in given]
    first, names = prepared[0], [run.name for run in prepared]
    selections: Sequence[Selection | str] = at if isinstance(at, (list, tuple)) else [at]  # type: ignore[list-item]
    chosen = [operation for operation in select_all(first.model, selections) if operation.tensors != ()]
    alignments = [_align(first, run, align) for run in prepared[1:]]
    counterparts = [
        {one.path: run.edited(other) for one, other in each.pairs}
        for run, each in zip(prepared[1:], alignments, strict=True)
    ]
    beside = SideBySide(prepared, chosen, counterparts, own=own)
    table = PairTable(prepared, chosen, counterparts)
    failures: list[Failure] = []
    images_done = 0
    for number, parts in enumerate(_read_together(sources)):
        main = parts[0]
        values = [run.inputs(part.values) for run, part in zip(prepared, parts, strict=True)]
        table.drop_image()
        try:
            check_size(first.original, main)
            for step in beside.steps(values):
                table.add(step)
                if on_step is not None:
                    on_step(main, step)
        except ImageError as error:
            failures.append(Failure(main.source or main.name, str(error), main.number))
            continue
        table.finish_image()
        images_done += 1
        if progress is not None:
            progress(Progress(number + 1, len(failures), sources[0].total, main.name))
    failures = [*sources[0].failures, *failures]
    if not images_done:
        raise ImageError(failures[0].reason if failures else "there is no image")
    return RunComparison(
        runs=tuple(names),
        rows=tuple(table.rows()),
        images=images_done,
        threshold=threshold,
        unmatched={
            run.name: text for run, each in zip(prepared[1:], alignments, strict=True) if (text := each.describe())
        },
        failed=tuple(failures),
        notes=tuple(_notes(prepared, beside)),
        seconds=time.perf_counter() - started,
    )


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


def _read_together(sources: Sequence[StudyInputs]) -> Iterator[tuple[StudyImage, ...]]:
    """Yield an image for each run. Runs without images of their own have those of the first."""
    shared = [source.total for source in sources]
    if len(set(shared)) > 1:
        raise ImageError(f"the runs have {', '.join(map(str, shared))} images; give each as many")
    yield from zip(*sources, strict=True)


def _notes(prepared: Sequence[PreparedRun], beside: SideBySide) -> Iterator[str]:
    for run in prepared:
        if run.trace.front_end != "symbolic" or not run.trace.is_verified:
            yield f"{run.name}: {'; '.join(run.trace.describe())}"
        yield from get_provenance(run.original).notes_on_random_weights(run.original, run.name)
    drawing = [run for run in prepared if run.name in beside.drawing]
    if drawing:
        seeds = sorted({run.run.seed for run in drawing})
        where = ", ".join(run.name for run in drawing)
        yield f"random numbers are drawn in {where}: for each image from the seed {', '.join(map(str, seeds))}"
    unknown = [run.name for run, known in zip(prepared[1:], beside.knows_own, strict=True) if not known]
    if unknown:
        yield f"own differences take graphs that run operation by operation; not known for {', '.join(unknown)}"
