"""`extract`: images through a model, and the values of selected operations to sinks."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch

from surgery.builtin import Grid, MinMax, Png, Sheet, default_reader
from surgery.editing import edit_texts, edits_of
from surgery.extraction.execution import run_images
from surgery.extraction.measuring import describe_measures
from surgery.extraction.model_preparation import copy_for_run, edit_for_run, insert_extractors, trace_for_run
from surgery.extraction.named_stages import StageResolver
from surgery.extraction.output_parts import parse_scalar
from surgery.extraction.resumption import describe_plan, find_finished
from surgery.extraction.run_plan import RunPlan
from surgery.extraction.run_report import make_report
from surgery.extraction.run_settings import (
    ChosenEngine,
    check_gradients,
    check_settings,
    check_shareable,
    check_threads,
    describe_settings,
)
from surgery.extraction.sink_completion import check_sinks, complete_sinks
from surgery.extraction.watchers import WatcherList
from surgery.graph import trace_info
from surgery.inputs import find_inputs, read_example
from surgery.interrupts import watch_interrupts
from surgery.layouts import make_layout_rules
from surgery.models import get_provenance
from surgery.output import (
    Manifest,
    OutputFolder,
    RunStart,
    Shard,
    acquire_output,
    check_place,
    graph_entry,
    locate_shard,
    parse_place,
)
from surgery.rewriting import ALL_OPERATIONS, find_extractors
from surgery.text import describe_stage
from surgery.tracing import unwrap_model

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from surgery.editing import EditRecipe
    from surgery.extraction.output_parts import Scalar
    from surgery.extraction.run_settings import Mode
    from surgery.graph import FrontEnd
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.layouts import RequestedLayouts
    from surgery.output import Address, Progress, Report, Watcher
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Colormap, Engine, Measure, Normalizer, Reader, Sink, Tiler, Transform


def extract(
    model: nn.Module,
    images: FilePatterns = (),
    *,
    at: Selection | str | Sequence[Selection | str] = ALL_OPERATIONS,
    edits: EditRecipe = (),
    reference: FilePatterns = (),
    out: str | os.PathLike[str] | Address = "activations",
    normalizer: Normalizer | str = MinMax(),  # noqa: B008 - frozen
    tiler: Tiler | str = Grid(),  # noqa: B008
    colormap: Colormap = None,
    transforms: Transform | str | Sequence[Transform | str] = (),
    layout: RequestedLayouts = None,
    sinks: Sink | str | Sequence[Sink | str] = (Png(), Sheet()),  # noqa: B008
    inputs: Mapping[str, Any] = MappingProxyType({}),
    reader: Reader | str | None = None,
    readers: Mapping[str, Reader | str] = MappingProxyType({}),
    size: Size = None,
    side: Side = "none",
    range: tuple[float, float] | None = None,  # noqa: A002
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    mode: Mode = "eval",
    seed: int = 0,
    measures: Measure | str | Sequence[Measure | str] = (),
    stats: bool = False,
    output: bool = True,
    gradients: Scalar | str | None = None,
    grad_cam: bool = False,
    jobs: int = 1,
    engine: Engine | str | None = None,
    shard: tuple[int, int] | None = None,
    reader_threads: int = 1,
    writer_threads: int = 1,
    check: bool = True,
    leaves: Sequence[str | type[nn.Module]] = (),
    allow: Sequence[str] = (),
    front_end: FrontEnd | Literal["auto"] = "auto",
    source: str | None = None,
    overwrite: bool = False,
    force: bool = False,
    watchers: Sequence[Watcher] = (),
    plugins: Plugins | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Run a model on images, and give the values of selected operations to the sinks.

    - `model`: The model, which stays as it is. The run uses a copy that shares its parameters.
    - `images`: Files, folders, patterns such as ``facades/*.png``, tar shards, Parquet tables, and lists of files such
      as ``@list.txt``; also at addresses of fsspec: ``s3://bucket/photos/*.png``.
    - `at`: Which operations: one selection or several, each of which must match something.
    - `edits`: What is changed in the model while it runs: texts such as ``"up3.cat = zero:channels=0-15"``, or pairs of
      a selection and an edit, in the order in which they are applied. The edited values are operations with a prime,
      ``up3.cat'``. See `surgery.edit`; `surgery.editing.read_edits` returns those of an earlier run.
    - `reference`: Images for edits that compute their replacement from a reference run, read as the others are.
    - `out`: The folder for files and manifest, made if missing, or an address such as ``s3://bucket/run``. If it holds
      a part of this run, the run goes on.
    - `normalizer`, `tiler`, `colormap`, `transforms`: How pictures are drawn.
    - `layout`: How values are read as maps, such as ``surgery.layouts.ChannelsLast()``: for every operation that it
      fits, or a mapping from selections to layouts. By default the axes of each value are tracked through the graph, or
      guessed from their number. The manifest has each decision with its reason.
    - `sinks`: What writes files. With an engine of several workers, only sinks that keep images apart, or that merge
      what they gather of them, as statistics do.
    - `inputs`: The other inputs of a model that takes several: names of forward's parameters, with files as in
      `images`. The files are one for each image, by name or in order, or one for all. A number, a flag, None, a list of
      numbers or a tensor is given to every batch as it is. Without `images`, the files of the first input take their
      place. Sinks and manifest call the inputs ``input.NAME``.
    - `reader`: What reads the images; by default what the suffix of the first file asks for: ``array`` for arrays,
      ``waveform`` for sound, else ``image``. A file may hold several inputs by name.
    - `readers`: What reads the other inputs, by name.
    - `size`, `side`: Options of the reader of images, as in `surgery.load_image`. By default the size that the network
      wants (its attribute `preprocessing` or `size`, or that of its configuration), else that of each image.
    - `range`: The values of black and white. By default those that the network wants, else -1 and 1.
    - `batch_size`: How many images run at once.
    - `device`: Where the model runs.
    - `mode`: ``eval``; ``train``, as in the test mode of the public pix2pix code (batch statistics, dropout); or
      ``as-is``.
    - `seed`: Seeds torch's random generators before every batch. Buffers, such as running statistics, are restored
      before every batch too, so that the values of an image depend on its batch alone. What the Python
      code of an observed model keeps in other attributes, such as a count of its runs, goes on to the next batch.
    - `measures`: What is measured of each value, such as ``"checkerboard"``: numbers of its channels, which sinks get
      with the activation (`Activation.measures`), and the manifest records.
    - `stats`: Whether facts include mean, deviation, zeros and counts, which takes further passes over the values.
    - `output`: Whether the model runs to its end. Without, it stops after the last selected operation.
    - `gradients`: Also give the sinks the gradient of one number of the output with respect to each selected value, as
      in `surgery.record`, under the operation's path and ``.gradient``. Its limits have zero in the middle.
    - `grad_cam`: Also give them the Grad-CAM of each operation that has maps, ``.grad_cam``; of the mean of the output
      if `gradients` does not say of what.
    - `jobs`: With 1, threads read images and write files beside the model. With more, so many processes share the
      batches: faster for many images on many cores. Short for the engine ``processes``.
    - `engine`: What runs the batches: ``local``, this process; ``processes:workers=4``; or one of a plugin.
    - `shard`: Which part of the run to do, such as ``(2, 8)``: whole batches that follow each other, into the folder
      ``shard-2-of-8`` in `out`. `surgery.merge` puts the parts together. Only for sinks that keep images apart.
    - `reader_threads`, `writer_threads`: How many threads read images, and draw and write files, beside the model; with
      0 it is done in the model's own. The files do not depend on it. Several writers need sinks that keep images apart.
    - `check`: Whether the original runs on the first batch too. Its output must be the same, bit for bit.
    - `leaves`, `allow`: Modules to keep whole and hazards to allow while tracing, as in `surgery.trace`.
    - `front_end`: How the model is traced, as in `surgery.trace`. The first image that can be read is the example.
    - `source`: Where the model comes from, for the manifest.
    - `overwrite`: Whether to replace a run in the folder, and not to go on with it.
    - `force`: Whether to go on if the first batch shows that the files of all images won't fit on the disk.
    - `watchers`: Functions to call during the run. One that raises an error is not called again, and is reported.
    - `plugins`: Where names of stages are looked up; by default the plugins that the command line finds.
    - `progress`: Called after each batch.

    Normalizer, tiler, colormap, transforms, measures, sinks and readers are values, or names that plugins offer, with
    options: ``normalizer="percentile:low=2"``, ``sinks=["png", "npz"]``.

    The same call goes on with a run that was stopped, by Ctrl-C, an error, a kill or a power cut: finished images are
    not run again, and the files become those of a run that nothing has stopped. Raises OutputError if the folder holds
    another run, and names the first difference. With `overwrite`, the files that its manifest lists, and no others, are
    removed when the first image of the new run is finished. Two runs can't write to one folder at the same time.

    An image that can't be read, or that the model can't take, is skipped and reported. Any other error is raised after
    the finished images are recorded. Ctrl-C ends the run, and the finished images stay; the report says that it was
    interrupted. What is pressed while the last files and the manifest are written takes effect after that.
    """
    started = time.perf_counter()
    part, place = locate_shard(shard, parse_place(out), overwrite=overwrite)
    check_settings(mode, batch_size, side, device, seed)
    watcher_list = WatcherList(watchers)
    gradients = "output" if grad_cam and gradients is None else gradients
    scalar = None if gradients is None else parse_scalar(gradients)
    stages = StageResolver(plugins)
    chosen = ChosenEngine.choose(jobs, engine, stages)
    check_gradients(scalar, output=output, engine=chosen)
    main_reader: Reader | None = None if reader is None else stages.resolve("reader", reader)
    resolved_sinks: tuple[Sink, ...] = stages.resolve_all("sink", sinks)
    check_sinks(resolved_sinks, place)
    named_measures = stages.measures(measures)
    recipe = stages.recipe(normalizer, tiler, colormap, transforms)
    other_readers = {name: stages.resolve("reader", each) for name, each in readers.items()}
    check_shareable(chosen, resolved_sinks, watcher_list, part, place)
    check_threads(reader_threads, writer_threads, chosen, resolved_sinks, device)
    original = unwrap_model(model)
    find = partial(
        find_inputs,
        original,
        reader=main_reader,
        inputs=inputs,
        readers=other_readers,
        default_reader=default_reader,
        size=size,
        side=side,
        value_range=range,
    )
    files, reference_files = find(images), find(reference) if reference else None
    check_place(place, overwrite=overwrite)
    subject = copy_for_run(original, mode, device)
    example = read_example(subject, files, device)
    traced = trace_for_run(subject, {"leaves": leaves, "allow": allow, "front_end": front_end}, example)
    edited = edit_for_run(traced, edits, layout, reference_files, subject, device=device, seed=seed, plugins=plugins)
    rewritten = insert_extractors(edited, at, output=output)
    input_names = None if example is None else tuple(example)
    del example
    operations = tuple(extractor.operation for extractor in find_extractors(rewritten))
    recipe = replace(recipe, stats=stats, layouts=make_layout_rules(layout, operations))
    provenance, info = get_provenance(original), trace_info(rewritten)
    settings = describe_settings(
        {"mode": mode, "seed": seed, "batch_size": batch_size},
        grad_cam=grad_cam,
        gradients=gradients if scalar is None or isinstance(gradients, str) else describe_stage(scalar),
        leaves=[leaf if isinstance(leaf, str) else leaf.__name__ for leaf in leaves],
        allow=allow,
        edits=edits_of(traced) + edit_texts(edits, plugins),
        measures=describe_measures(named_measures),
        reference=[] if reference_files is None else [str(path) for path in reference_files.paths],
    )
    manifest = Manifest.for_run(
        subject,
        source=source,
        settings={**settings, **files.settings},
        recipe=recipe.describe(),
        trace=info,
        weights=provenance.describe_weights(original),
        graph=graph_entry(edited, subject, input_names or ()),
        plan=describe_plan(
            files, operations, resolved_sinks, {"device": str(device), "output": output, "stats": stats, "size": size}
        ),
        shard=part,
    )
    with (
        watch_interrupts(held=True) as interrupts,
        acquire_output(place, overwrite=overwrite, inputs=files.local_files(), head=manifest.head) as workspace,
    ):
        interrupts.allow()
        folder = OutputFolder(workspace.folder, manifest.about, workspace)
        opened_inputs = files.open(name for sink in resolved_sinks for name in getattr(sink, "places", ()))
        folder.plan_images(opened_inputs.names, opened_inputs.paths, batch_size)
        numbers = (part or Shard(1, 1)).images(len(files.paths), batch_size)
        plan = RunPlan(
            original=original,
            rewritten=rewritten,
            reference=subject if check and output else None,
            unedited=traced if edits else None,
            recipe=recipe,
            value_range=files.options.value_range,
            input_limits=files.options.limits,
            sinks=resolved_sinks,
            folder=folder,
            workspace=workspace,
            inputs=opened_inputs,
            notes=files.notes,
            finished=find_finished(folder, len(numbers), resolved_sinks, place),
            numbers=numbers,
            shard=part,
            fixed_inputs=files.values_for(subject, device),
            input_names=None if input_names is None else frozenset(input_names),
            batch_size=batch_size,
            device=torch.device(device),
            seed=seed,
            records_output=output,
            gradients=scalar,
            measures=named_measures,
            grad_cam=grad_cam,
            reader_threads=reader_threads,
            writer_threads=writer_threads,
            force=force,
        )
        with manifest.recording(workspace, operations):
            watcher_list.started(RunStart(place, files.paths, operations, folder.about))
            result = run_images(plan, manifest, chosen.engine, interrupts, watcher_list.writes, progress)
    model_notes = provenance.notes(original, source or type(original).__name__)
    report = make_report(plan, result, info, model_notes, started, interrupts)
    return watcher_list.finished(complete_sinks(resolved_sinks, report))
