"""`extract`: images through a model, and the values of selected operations to sinks."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from surgery.builtin import Grid, MinMax, Png, Sheet
from surgery.extraction.execution import run_in_this_process, run_in_worker_processes
from surgery.extraction.model_preparation import copy_for_run, insert_extractors
from surgery.extraction.named_stages import StageResolver
from surgery.extraction.run_plan import RunPlan
from surgery.extraction.run_settings import check_settings, check_shareable, count_workers
from surgery.extraction.watchers import WatcherList
from surgery.graph import hazards
from surgery.inputs import ImageReader, find_inputs, format_notes, read_example
from surgery.layouts import make_layout_rules
from surgery.models import get_provenance
from surgery.output import Manifest, OutputFolder, Report, RunStart, acquire_workspace, check_overwrite
from surgery.rewriting import ALL_OPERATIONS, find_extractors
from surgery.text import WORK_FOLDER
from surgery.tracing import unwrap_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from surgery.extraction.run_settings import Mode
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.layouts import RequestedLayouts
    from surgery.output import Progress, Watcher
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Colormap, Normalizer, Reader, Sink, Tiler, Transform


def extract(
    model: nn.Module,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    out: str | os.PathLike[str] = "activations",
    normalizer: Normalizer | str = MinMax(),  # noqa: B008 - frozen
    tiler: Tiler | str = Grid(),  # noqa: B008
    colormap: Colormap = None,
    transforms: Transform | str | Sequence[Transform | str] = (),
    layout: RequestedLayouts = None,
    sinks: Sink | str | Sequence[Sink | str] = (Png(), Sheet()),  # noqa: B008
    inputs: Mapping[str, FilePatterns] = MappingProxyType({}),
    reader: Reader | str = ImageReader(),  # noqa: B008
    readers: Mapping[str, Reader | str] = MappingProxyType({}),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] | None = None,  # noqa: A002
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    mode: Mode = "eval",
    seed: int = 0,
    stats: bool = False,
    output: bool = True,
    jobs: int = 1,
    check: bool = True,
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    source: str | None = None,
    overwrite: bool = False,
    watchers: Sequence[Watcher] = (),
    plugins: Plugins | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run `model` on images, and give what the operations chosen by `at` compute to the sinks, with a manifest.

    `images` are files, folders and patterns. `at` may be several selections; each must match something. `size` and
    `range` None are the network's own (an attribute `preprocessing`, or `size`), else each image's own size, and -1 to
    1. `size` and `side`, as `surgery.load_image` has them, are of the default reader, which reads images; another
    `reader` takes options of its own. `mode` says whether the model runs as in evaluation, as in training (the test
    mode of the public pix2pix code: batch statistics, dropout on), or as it is; the model itself stays in its mode. The
    random generators are seeded with `seed` before every batch, and buffers (running statistics) are put back, so that
    what an image gives depends on its batch alone. Without `output` the model is run no further than its last chosen
    operation. With `check` the original runs on the first batch as well, and its output has to be the same, bit for
    bit; that is recorded. `source` is recorded as where the model came from.

    Normalizer, tiler, colormap, transforms, sinks and reader are values, or names that `plugins` offer (None: those of
    the command line), with options: ``normalizer="percentile:low=2"``, ``sinks=["png", "npz"]``.

    `inputs` are what a model of several inputs takes beside the image: the name of forward's parameter, and files as in
    `images`, one for each image (by their names, or in order) or one for all. They are read as images, or by what
    `readers` has for the name; the manifest and the sinks have them as ``input.NAME``.

    With one of `jobs` images are read and pictures written on threads beside the one that runs the model. Several are
    processes that share the images, batch by batch, each with one thread for everything: faster where there are many
    images for each core. Every sink has to be one that keeps images describe_difference.

    `layout` says how values are read as maps, such as ``surgery.layouts.ChannelsLast()``, for all operations that it
    fits, or, as a mapping from selections to layouts, for some. None is to find it: what the axes of a value are is
    followed through the graph, and told by their number where that is not known. What was decided stands in the
    manifest, and why.

    `out` is made if it is not there. A folder with a finished run is refused, with OutputError, unless `overwrite` is
    true: then the files that its manifest lists are removed, and nothing else, once an image of this run is finished.
    A run that finishes no image leaves the folder as it was. Two runs can't write to one folder at once.

    `watchers` are told of the run while it goes on; one that raises is left out of the rest and stands in the report.
    An image that can't be read, or that the model can't take, is left out and reported; all else that goes wrong
    raises a SurgeryError. Ctrl-C ends the run after what is finished.
    """
    started = time.perf_counter()
    check_settings(mode, batch_size, side, jobs, device, seed)
    watcher_list = WatcherList(watchers)
    stages = StageResolver(plugins)
    main_reader: Reader = stages.resolve("reader", reader)
    resolved_sinks: tuple[Sink, ...] = stages.resolve_all("sink", sinks)
    recipe = stages.recipe(normalizer, tiler, colormap, transforms)
    other_readers = {name: stages.resolve("reader", each) for name, each in readers.items()}
    if jobs > 1:
        check_shareable(jobs, resolved_sinks, watcher_list)
    original = unwrap_model(model)
    files = find_inputs(
        original,
        images,
        reader=main_reader,
        inputs=inputs,
        readers=other_readers,
        size=size,
        side=side,
        value_range=range,
    )
    check_overwrite(Path(out), overwrite=overwrite or (Path(out) / WORK_FOLDER).exists())
    subject = copy_for_run(original, mode, device)
    example = read_example(subject, files.open(), device)
    rewritten = insert_extractors(subject, at, leaves, allow, files.other_names, example, output=output)
    operations = tuple(extractor.operation for extractor in find_extractors(rewritten))
    recipe = replace(recipe, stats=stats, layouts=make_layout_rules(layout, operations))
    provenance = get_provenance(original)
    manifest = Manifest.for_run(
        subject,
        source=source,
        settings={"mode": mode, "seed": seed, "batch_size": batch_size, **files.settings},
        recipe=recipe.describe(),
        weights=provenance.describe_weights(original),
    )
    with acquire_workspace(Path(out), overwrite=overwrite, inputs=files.all_paths()) as workspace:
        folder = OutputFolder(out, manifest.about, workspace)
        opened_inputs = files.open(name for sink in resolved_sinks for name in getattr(sink, "places", ()))
        folder.reserve_image_names(name for _, name in opened_inputs.named_paths)
        plan = RunPlan(
            original=original,
            rewritten=rewritten,
            reference=subject if check and output else None,
            recipe=recipe,
            value_range=files.options.value_range,
            input_limits=files.options.limits,
            sinks=resolved_sinks,
            folder=folder,
            workspace=workspace,
            inputs=opened_inputs,
            batch_size=batch_size,
            device=torch.device(device),
            seed=seed,
            records_output=output,
        )
        with manifest.recording(workspace, operations):
            watcher_list.started(RunStart(folder.path, files.paths, operations, folder.about))
            workers = count_workers(jobs, len(files.paths), batch_size)
            if workers == 1:
                result = run_in_this_process(plan, manifest, watcher_list.writes, progress)
            else:
                result = run_in_worker_processes(plan, manifest, workers, progress)
    model_notes = provenance.notes(original, source or type(original).__name__)
    report = Report(
        folder=folder.path,
        images=result.images,
        files=result.files,
        failed=result.failures,
        summaries=result.summaries,
        seconds=time.perf_counter() - started,
        hazards=hazards(rewritten),
        notes=(*model_notes, *format_notes(result.notes)),
        interrupted=result.interrupted,
        overview=None if result.overview is None else folder.path / result.overview,
    )
    return watcher_list.finished(report)
