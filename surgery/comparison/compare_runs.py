"""`compare`: runs side by side, operation by operation."""

from __future__ import annotations

import time
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from surgery.comparison.compare_files import FileWriter, open_compare_folder
from surgery.comparison.compare_loop import CompareLoop
from surgery.comparison.compare_setup import CompareSetup
from surgery.comparison.pair_table import PairTable
from surgery.comparison.run_comparison import RunComparison
from surgery.comparison.side_by_side import SideBySide
from surgery.rewriting import ALL_OPERATIONS
from surgery.studies import ReadingArguments

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from surgery.comparison.runs import Run
    from surgery.comparison.side_by_side import StepValues
    from surgery.graph import FrontEnd
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.output import Progress
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Reader
    from surgery.studies import StudyImage

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
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    top: int = 8,
    channels: int = 2,
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
    - `out`, `overwrite`: A folder to write to: tables and, for each image, sheets and pictures of the `channels` most
      changed channels of the `top` most changed operations in all runs. None writes nothing.
    - `inputs`, `reader`, `readers`, `size`, `side`, `range`, `leaves`, `allow`, `front_end`, `plugins`: As in
      `surgery.extract`. Images are read as the first model takes them.
    - `progress`: Called after each image.
    - `on_step`: Called with the values of each operation while they are there.

    Ctrl-C ends the run; if images were finished, the result is that of those. An error after some images were finished
    is raised when their files are complete.

    Raises ModelError for fewer than two runs and for runs that can't have the same inputs, SelectionError for models
    that have no operation in common, OutputError for a folder that can't be written, and what `surgery.extract` raises
    for its arguments.
    """
    started = time.perf_counter()
    reading = ReadingArguments(inputs, reader, readers, size, side, range)
    tracing = {"leaves": leaves, "allow": allow, "front_end": front_end}
    setup = CompareSetup(runs, images, at, align, reading, tracing, plugins)
    beside = SideBySide(setup.runs, setup.chosen, setup.counterparts, own=own)
    table = PairTable(setup.runs, setup.chosen, setup.counterparts, setup.inputs.total)
    loop = CompareLoop(setup, beside, table)
    settings = {"own": own, "threshold": threshold, "top": top, "channels": channels}
    with open_compare_folder(out, setup, settings, overwrite=overwrite) as folder:
        writer = None if folder is None else FileWriter(folder, setup, table, top, channels)
        loop.run(writer, on_step, progress)
        found = RunComparison(
            runs=tuple(setup.names),
            rows=tuple(table.rows()),
            images=loop.done,
            threshold=threshold,
            unmatched=setup.unmatched(),
            failed=tuple(loop.failures),
            notes=tuple(setup.notes(beside)),
            seconds=time.perf_counter() - started,
            interrupted=loop.interrupted,
        )
        if folder is not None:
            folder.finish("compared", found.content(), found.records(), loop)
            found = replace(found, folder=folder.path, sheet=folder.sheet)
    if loop.error is not None:
        raise loop.error
    return found
